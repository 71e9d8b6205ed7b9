"""Paths and `s3://` URLs alike. The only room that knows boto3."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse

S3_ATTEMPTS = 8


def is_url(location: str | Path) -> bool:
    """Whether a location is an object in S3 rather than a path."""
    return str(location).startswith("s3://")


def join(location: str | Path, *parts: str) -> str:
    """A location below another, path or URL; an absolute part stands for itself."""
    result = str(location)
    for part in parts:
        result = part if is_url(part) or Path(part).is_absolute() else f"{result.rstrip('/')}/{part}"
    return result


@cache
def _client() -> Any:
    """An S3 client from the environment (`AWS_*`, `AWS_ENDPOINT_URL`), with retries."""
    import boto3
    from botocore.config import Config

    return boto3.client("s3", config=Config(retries={"max_attempts": S3_ATTEMPTS, "mode": "adaptive"}))


def _bucket_and_key(url: str) -> tuple[str, str]:
    parsed = urlparse(url)
    if not parsed.netloc:
        raise ValueError(f"{url}: no bucket; write s3://bucket/key")
    return parsed.netloc, parsed.path.lstrip("/")


@contextlib.contextmanager
def _s3(url: str) -> Iterator[tuple[Any, str, str]]:
    """Client, bucket and key of a URL; what S3 or the way to it refuses is an `OSError` of one line."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = _bucket_and_key(url)
    try:
        yield _client(), bucket, key
    except ClientError as error:
        kind = FileNotFoundError if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404 else OSError
        raise kind(f"{url}: {error}") from None
    except (BotoCoreError, ValueError) as error:  # ValueError: an AWS_ENDPOINT_URL that is none
        raise OSError(f"{url}: {error}") from None


def exists(location: str | Path) -> bool:
    """Whether a file, folder or object is there."""
    if not is_url(location):
        return Path(location).exists()
    try:
        with _s3(str(location)) as (client, bucket, key):
            client.head_object(Bucket=bucket, Key=key)
    except FileNotFoundError:
        return False
    return True


def read_bytes(location: str | Path, start: int = 0, length: int | None = None) -> bytes:
    """All of a file or object, or `length` bytes from `start`."""
    if is_url(location):
        end = "" if length is None else str(start + length - 1)
        span = {} if start == 0 and length is None else {"Range": f"bytes={start}-{end}"}
        with _s3(str(location)) as (client, bucket, key):
            body: bytes = client.get_object(Bucket=bucket, Key=key, **span)["Body"].read()
        return body
    with open(location, "rb") as file:
        file.seek(start)
        return file.read() if length is None else file.read(length)


def read_json(location: str | Path) -> Any:
    """A JSON file; a `ValueError` names it where it cannot be parsed."""
    try:
        return json.loads(read_bytes(location))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{location}: not JSON ({error})") from None


def write_bytes(location: str | Path, data: bytes) -> None:
    """Write whole or not at all: a reader sees the old content or the new, never a part."""
    if is_url(location):
        with _s3(str(location)) as (client, bucket, key):
            client.put_object(Bucket=bucket, Key=key, Body=data)
        return
    with atomic_file(location) as file:
        file.write(data)


def write_text(location: str | Path, text: str) -> None:
    write_bytes(location, text.encode())


def write_json(location: str | Path, value: Any) -> None:
    """Sorted keys and a final line feed: equal values give equal bytes. NaN is refused, since JSON has none."""
    write_text(location, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file that takes its name only once it is whole and on disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sha256(location: str | Path) -> str:
    """Hex digest of a file or object."""
    if is_url(location):
        return hashlib.sha256(read_bytes(location)).hexdigest()
    with open(location, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
