"""Files that take their name only once they are whole, and what lies in a folder."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".part"  # ends the name of a file that is being written; the name begins with a dot


@contextlib.contextmanager
def atomic_file(path: Path, *, only_if_absent: bool = False) -> Iterator[BinaryIO]:
    """A file, readable too, that takes its name only once it is whole and on disk.

    Errors: `FileExistsError` where it must be absent and is not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        if only_if_absent:
            _link(Path(name), path)
        else:
            Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _link(whole: Path, path: Path) -> None:
    """Give a file its name unless another has it: one of many wins."""
    try:
        path.hardlink_to(whole)
    except FileExistsError:
        raise FileExistsError(f"{path}: is there already") from None
    whole.unlink()


def names_below(folder: Path) -> list[str]:
    """Relative names of all whole files, sorted."""
    return sorted(
        (Path(parent) / file).relative_to(folder).as_posix()
        for parent, _, files in os.walk(folder)
        for file in files
        if not (file.startswith(".") and file.endswith(UNFINISHED))
    )


def remove(path: Path) -> None:
    """Remove a file or a folder; what is not there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
