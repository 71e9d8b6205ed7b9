"""Paths and `s3://` URLs alike: whole or not at all, by range, side by side. The only room that knows boto3.

S3 is whatever the environment says: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` (or any other way that boto3 knows),
`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_CA_BUNDLE`. A server that is gone for a while, a connection that breaks and an
answer of 5xx are waited for (`OAPSEG_S3_PATIENCE_S`, 120 s without progress); all else is an `OSError` of one line.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from oapseg.storage import connection, files, s3

LINES_BYTES = 1 << 20  # of a part that is read for its lines


def is_url(location: str | Path) -> bool:
    """Whether a location is an object in S3 rather than a path."""
    return str(location).startswith("s3://")


def join(location: str | Path, *parts: str) -> str:
    """A location below another, path or URL; an absolute part stands for itself."""
    result = str(location)
    for part in parts:
        result = part if is_url(part) or Path(part).is_absolute() else f"{result.rstrip('/')}/{part}"
    return result


def exists(location: str | Path) -> bool:
    """Whether a file, folder or object is there. Errors: `OSError` where the bucket is not."""
    if not is_url(location):
        return Path(location).exists()
    try:
        s3.head(str(location))
    except FileNotFoundError:
        return any(s3.keys_below(str(location), limit=1))
    return True


def size(location: str | Path) -> int:
    """Bytes of a file or object. Errors: `FileNotFoundError`."""
    return int(s3.head(str(location))["ContentLength"]) if is_url(location) else Path(location).stat().st_size


def list_files(location: str | Path) -> list[str]:
    """Names of all whole files below a folder or prefix, relative to it and sorted; none where nothing is there."""
    return sorted(s3.keys_below(str(location))) if is_url(location) else files.names_below(Path(location))


def read_bytes(location: str | Path, start: int = 0, length: int | None = None) -> bytes:
    """All of a file or object, or `length` bytes from `start`; fewer where it ends before, as files have it."""
    if is_url(location):
        return b"" if length == 0 else b"".join(s3.get_parts(str(location), start, length))
    with open(location, "rb") as file:
        file.seek(start)
        return file.read() if length is None else file.read(length)


def read_ranges(ranges: Iterable[tuple[str, int, int]]) -> Iterator[bytes]:
    """Many (location, start, length), in order; from S3 some side by side and ahead, as each waits for its answer."""
    ranges = iter(ranges)
    first = next(ranges, None)
    if first is None:
        return
    if is_url(first[0]):
        yield from s3.in_parallel(lambda span: read_bytes(*span), chain([first], ranges))
    else:
        yield from (read_bytes(*span) for span in chain([first], ranges))


def read_lines(location: str | Path) -> Iterator[bytes]:
    """The lines of a file or object with their line feeds, in memory that does not grow with their number."""
    if is_url(location):
        yield from _lines(s3.get_parts(str(location), part_bytes=LINES_BYTES, at_once=2))
        return
    with open(location, "rb") as file:
        yield from file


def read_json(location: str | Path) -> Any:
    """A JSON file; a `ValueError` names it where it cannot be parsed."""
    try:
        return json.loads(read_bytes(location))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{location}: not JSON ({error})") from None


def write_bytes(location: str | Path, data: bytes, *, only_if_absent: bool = False) -> None:
    """Write whole or not at all: a reader sees the old content or the new, never a part.

    Errors: `FileExistsError` where it must be absent and is not: of many writers at once, one wins. Unlike contents
    keep them apart where an answer of S3 gets lost and a writer has to ask whose the object is.
    """
    if not is_url(location):
        with files.atomic_file(Path(location), only_if_absent=only_if_absent) as file:
            file.write(data)
    elif only_if_absent:
        s3.put(str(location), data, only_if_absent=True)
    else:
        _write_parts(location, (data[at : at + s3.PART_BYTES] for at in range(0, len(data), s3.PART_BYTES)))


def write_text(location: str | Path, text: str) -> None:
    write_bytes(location, text.encode())


def write_json(location: str | Path, value: Any) -> None:
    """Sorted keys and a final line feed: equal values give equal bytes. NaN is refused, since JSON has none."""
    write_text(location, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


@contextlib.contextmanager
def atomic_file(location: str | Path) -> Iterator[BinaryIO]:
    """A file, readable too, that takes its name only once it is whole; an object is sent when the file is closed."""
    if not is_url(location):
        with files.atomic_file(Path(location)) as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        yield file
        part_bytes = _part_bytes(file.seek(0, os.SEEK_END))
        file.seek(0)
        s3.put_parts(str(location), iter(lambda: file.read(part_bytes), b""))


def upload(path: str | Path, url: str) -> str:
    """Copy a file to a URL or to another path, whole or not at all; the sha256 of what was copied."""
    return _copy(path, url, None)


def download(url: str | Path, path: str | Path, sha256: str | None = None) -> str:
    """Copy an object or a file to a path, whole or not at all; the sha256 of what came.

    Errors: `OSError` where it is not the sha256 that was expected.
    """
    return _copy(url, path, sha256)


def delete(location: str | Path) -> None:
    """Remove a file or object, or a folder with all below it; what is not there is no error."""
    if not is_url(location):
        files.remove(Path(location))
        return
    if not connection.bucket_and_key(str(location))[1].strip("/"):
        raise ValueError(f"{location}: names a whole bucket; name what to delete in it")
    for _ in s3.in_parallel(s3.remove, [join(location, key) for key in s3.keys_below(str(location))]):
        pass
    s3.remove(str(location))


def sha256(location: str | Path) -> str:
    """Hex digest of a file or object."""
    digest = hashlib.sha256()
    for part in _parts(location):
        digest.update(part)
    return digest.hexdigest()


def _copy(source: str | Path, target: str | Path, expected: str | None) -> str:
    digest = hashlib.sha256()

    def checked() -> Iterator[bytes]:
        for part in _parts(source):
            digest.update(part)
            yield part
        if expected not in (None, digest.hexdigest()):
            raise OSError(f"{source}: damaged, its sha256 is {digest.hexdigest()} and should be {expected}")

    _write_parts(target, checked())
    return digest.hexdigest()


def _parts(location: str | Path) -> Iterator[bytes]:
    """A file or object from begin to end, in parts that fit the memory."""
    if is_url(location):
        yield from s3.get_parts(str(location))
        return
    with open(location, "rb") as file:
        part_bytes = _part_bytes(Path(location).stat().st_size)
        while part := file.read(part_bytes):
            yield part


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _write_parts(location: str | Path, parts: Iterable[bytes]) -> None:
    """One file or object of parts; an exception on the way leaves what was there."""
    if is_url(location):
        s3.put_parts(str(location), parts)
        return
    with files.atomic_file(Path(location)) as file:
        for part in parts:
            file.write(part)


def _part_bytes(total: int) -> int:
    """Of a part, such that an object has no more of them than S3 allows."""
    return max(s3.PART_BYTES, -(-total // s3.MOST_PARTS))
