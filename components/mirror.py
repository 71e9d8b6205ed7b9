"""A folder kept below a URL while a step writes it, so that a pod that goes away leaves what the next one goes on from.

A folder with `sha256.json` (a checkpoint, a model) counts as whole once that file is there: it goes last, and before
anything beside it changes it goes away. All plain files, the history of a training among them, go before any such
seal: a restored history never ends before the checkpoint it is restored with.
"""

import contextlib
import os
import sys
import threading
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from components.artifact import each
from oapseg import storage

SEAL = "sha256.json"
EVERY_S = 15.0

Stamp = tuple[int, int]  # bytes and time of change, ns


class Mirror:
    """`with Mirror(folder, url):` brings the folder back, keeps the URL like it, and brings it up to date at the end.

    Where storage fails meanwhile, the step goes on and the next round tries again; at the end it is an error.
    """

    def __init__(self, folder: Path, url: str, every_s: float = EVERY_S) -> None:
        self.folder, self.url, self.every_s = folder, url, every_s
        self.sent: dict[str, Stamp] = {}  # what the URL holds, as it was here
        self.hashes: dict[str, str] = {}  # sha256 of the same
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"mirror {folder.name}", daemon=True)

    def __enter__(self) -> Self:
        self.restore()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.sync()

    def restore(self) -> None:
        """Bring back what the URL holds."""

        def fetch(name: str) -> None:
            path = self.folder / name
            self.hashes[name] = storage.download(storage.join(self.url, name), path)
            self.sent[name] = _stamp(path)

        each(fetch, storage.list_files(self.url))
        if self.sent:
            print(f"{self.folder}: brought back {len(self.sent)} files from {self.url}", file=sys.stderr)

    def sync(self) -> None:
        """Make the URL hold what the folder holds now."""
        here = self._whole_files()
        changed = [name for name, stamp in here.items() if self.sent.get(name) != stamp]
        gone = self.sent.keys() - here.keys()
        touched = {str(PurePosixPath(name).parent / SEAL) for name in (*changed, *gone)}
        self._remove(touched & self.sent.keys())
        self._remove(gone & self.sent.keys())
        plain = [name for name in changed if PurePosixPath(name).name != SEAL]
        each(lambda name: self._send(name, here[name]), plain)
        moved = {str(PurePosixPath(name).parent / SEAL) for name in plain if self.sent.get(name) != here[name]}
        for seal in sorted(touched & here.keys() - moved):
            self._send(seal, here[seal])

    def _remove(self, names: set[str]) -> None:
        for name in sorted(names):
            storage.delete(storage.join(self.url, name))
            del self.sent[name], self.hashes[name]

    def _send(self, name: str, stamp: Stamp) -> None:
        """Copy a file, unless the step has removed it since."""
        path = self.folder / name
        try:
            self.hashes[name] = storage.upload(path, storage.join(self.url, name))
        except FileNotFoundError:
            if path.exists():
                raise
            return
        self.sent[name] = stamp

    def _whole_files(self) -> dict[str, Stamp]:
        """The files of the folder, without hidden ones: those are still being written."""
        found: dict[str, Stamp] = {}
        for parent, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(parent, name) for name in names if not name.startswith(".")):
                with contextlib.suppress(FileNotFoundError):  # removed since
                    found[path.relative_to(self.folder).as_posix()] = _stamp(path)
        return found

    def _keep(self) -> None:
        while not self._stop.wait(self.every_s):
            try:
                self.sync()
            except OSError as error:
                print(f"{self.folder}: not mirrored, tried again in {self.every_s:g} s ({error})", file=sys.stderr)


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
