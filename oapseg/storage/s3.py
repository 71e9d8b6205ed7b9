"""Objects in S3: read in parts side by side, written whole or not at all, listed, removed."""

import base64
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from oapseg.storage.connection import Patience, RangeError, bucket_and_key, call, client, reason

PART_BYTES = 16 * 2**20  # of one request; S3 allows parts of 5 MiB and more
MOST_PARTS = 10_000  # of one object, by S3's rule
CHUNK_BYTES = 2**18  # of an answer that is kept when the connection breaks
AT_ONCE = 8  # requests in flight for one object or one batch

A = TypeVar("A")
B = TypeVar("B")
log = logging.getLogger(__name__)


class Part(NamedTuple):
    """Bytes of an object, with the size and the ETag of the whole."""

    data: bytes
    size: int
    etag: str


def get(url: str, start: int, length: int, etag: str | None = None) -> Part:
    """At most `length` bytes from `start`; fewer only where the object ends, none where it ended before.

    A connection that breaks is taken up where it broke. Errors: `OSError` where the object is not of the given ETag,
    or was written anew meanwhile.
    """
    patience = Patience(url, "read")
    got = bytearray()
    size: int | None = None
    seen = etag

    def go_on(s3: Any, bucket: str, key: str) -> None:
        nonlocal size, seen
        if size is not None and start + len(got) >= min(start + length, size):
            return
        answer = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={start + len(got)}-{start + length - 1}")
        if "ContentRange" not in answer:
            raise OSError(f"{url}: the server knows no ranges")
        if seen not in (None, answer["ETag"]):
            raise OSError(f"{url}: was written anew while it was read")
        size, seen = int(answer["ContentRange"].rpartition("/")[2]), answer["ETag"]
        with answer["Body"] as body:
            while chunk := body.read(CHUNK_BYTES):
                got.extend(chunk)
                patience.progressed()

    try:
        call(url, "read", go_on, patience)
    except RangeError:
        return Part(bytes(got), start, seen or "")
    return Part(bytes(got), size or 0, seen or "")


def get_parts(
    url: str, start: int = 0, length: int | None = None, part_bytes: int = PART_BYTES, at_once: int = AT_ONCE
) -> Iterator[bytes]:
    """A whole object or a part of it in order, its requests side by side; one request where it is small."""
    first = get(url, start, part_bytes if length is None else min(part_bytes, length))
    yield first.data
    end = first.size if length is None else min(start + length, first.size)
    starts = range(start + len(first.data), end, part_bytes)
    for part in in_parallel(lambda at: get(url, at, min(part_bytes, end - at), first.etag), starts, at_once):
        yield part.data


def put(url: str, data: bytes, *, only_if_absent: bool = False) -> None:
    """One object in one request, whole or not at all.

    Errors: `FileExistsError` where it must be absent and is not. Where an answer got lost on the way and the next
    attempt finds this very content, the content counts as this call's.
    """
    condition = {"IfNoneMatch": "*"} if only_if_absent else {}
    attempts = 0

    def request(s3: Any, bucket: str, key: str) -> None:
        nonlocal attempts
        attempts += 1
        s3.put_object(Bucket=bucket, Key=key, Body=data, ContentMD5=_md5(data), **condition)

    try:
        call(url, "write", request)
    except FileExistsError:
        if attempts == 1 or b"".join(get_parts(url)) != data:
            raise


def put_parts(url: str, parts: Iterable[bytes]) -> None:
    """One object of parts (all but the last of `PART_BYTES` or more); none is visible before all are there."""
    parts = iter(parts)
    first, second = next(parts, b""), next(parts, None)
    if second is None:
        put(url, first)
        return
    begun = call(url, "write", lambda s3, bucket, key: s3.create_multipart_upload(Bucket=bucket, Key=key))
    upload = str(begun["UploadId"])

    def put_part(numbered: tuple[int, bytes]) -> dict[str, Any]:
        number, data = numbered
        facts = {"UploadId": upload, "PartNumber": number, "ContentMD5": _md5(data)}
        answer = call(url, "write", lambda s3, bucket, key: s3.upload_part(Bucket=bucket, Key=key, Body=data, **facts))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        done = list(in_parallel(put_part, enumerate(chain([first, second], parts), 1)))
        _complete(url, upload, done)
    except BaseException:
        _abort(url, upload)
        raise


def _complete(url: str, upload: str, parts: list[dict[str, Any]]) -> None:
    """Make the object of its parts. An upload that is gone at a second attempt was completed by the first."""
    attempts = 0

    def request(s3: Any, bucket: str, key: str) -> None:
        nonlocal attempts
        attempts += 1
        s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})

    try:
        call(url, "write", request)
    except FileNotFoundError:
        if attempts == 1 or head(url)["ETag"] != _etag([part["ETag"] for part in parts]):
            raise


def _etag(parts: list[str]) -> str:
    """The ETag that S3 gives an object of parts."""
    digests = b"".join(bytes.fromhex(etag.strip('"')) for etag in parts)
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"'


def _abort(url: str, upload: str) -> None:
    """One attempt: what stays is invisible, and a rule of the bucket's lifecycle ends it."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = bucket_and_key(url)
    try:
        client().abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    except (BotoCoreError, ClientError) as error:
        log.warning("%s: an unfinished upload stays behind, invisible (%s)", url, reason(error))


def head(url: str) -> dict[str, Any]:
    """What S3 says of an object: `ContentLength`, `ETag` and more."""
    answer: dict[str, Any] = call(url, "head", lambda s3, bucket, key: s3.head_object(Bucket=bucket, Key=key))
    return answer


def keys_below(url: str, limit: int | None = None) -> Iterator[str]:
    """Keys below a URL as a folder, relative to it, in order of their bytes."""
    folder = url.rstrip("/") + "/"
    prefix = bucket_and_key(folder)[1]
    more: dict[str, Any] = {} if limit is None else {"MaxKeys": limit}
    while True:
        page = call(folder, "list", _page(prefix, more))
        found = (entry["Key"].removeprefix(prefix) for entry in page.get("Contents", ()))
        yield from (key for key in found if key and not key.endswith("/"))
        if limit is not None or not page["IsTruncated"]:
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _page(prefix: str, more: dict[str, Any]) -> Callable[[Any, str, str], dict[str, Any]]:
    return lambda s3, bucket, _: s3.list_objects_v2(Bucket=bucket, Prefix=prefix, **more)


def remove(url: str) -> None:
    """Remove an object; one that is not there is no error."""
    call(url, "delete", lambda s3, bucket, key: s3.delete_object(Bucket=bucket, Key=key))


def in_parallel(
    function: Callable[[A], B],
    items: Iterable[A],
    at_once: int = AT_ONCE,
    *,
    waiting: int | None = None,
    begin: Callable[[], None] | None = None,
) -> Iterator[B]:
    """`function` of each item, in order, by `at_once` threads, each of which does `begin` first.

    At most `waiting` items (`at_once`, where nothing is said) are under way or waiting to be taken.
    """
    with ThreadPoolExecutor(at_once, initializer=begin) as pool:
        flying: deque[Future[B]] = deque()
        try:
            for item in items:
                flying.append(pool.submit(function, item))
                if len(flying) == (waiting or at_once):
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _md5(data: bytes) -> str:
    """What S3 compares with the bytes that came in (`Content-MD5`)."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
