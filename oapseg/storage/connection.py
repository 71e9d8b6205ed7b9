"""The way to S3: requests that outlive a bad network, and refusals of one line.

A server that is gone, resets connections or answers 5xx is tried again, with growing pauses, until nothing has moved
for `PATIENCE_S` seconds (`OAPSEG_S3_PATIENCE_S`). What trying again cannot mend (credentials, bucket, key, certificate)
is said at once. Messages hold the URL and S3's code, never a credential.
"""

import logging
import math
import os
import random
import re
import time
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any, TypeVar

from oapseg.storage import tally

PATIENCE_S = 120.0
LONGEST_PAUSE_S = 5.0
TELL_AFTER_S = 5.0
TELL_EVERY_S = 30.0
CONNECTIONS = 32  # that a process keeps open

TRANSIENT_CODES = frozenset(
    {"BadDigest", "ConditionalRequestConflict", "IncompleteBody", "OperationAborted", "RequestTimeout", "SlowDown"}
    | {"TooManyRequests", "XAmzContentSHA256Mismatch"}
)
ACCESS_CODES = frozenset({"401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"})

A = TypeVar("A")
log = logging.getLogger(__name__)


def client() -> Any:
    """The client of this process, shared by its threads."""
    with _one_at_a_time:
        return _client()


@cache
def _client() -> Any:
    """A client from the environment: `AWS_*`, among them endpoint, region and CA bundle."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=10,
        read_timeout=30,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",  # servers that are not Amazon's know no other digest than MD5
        response_checksum_validation="when_required",
    )
    # An empty AWS_CA_BUNDLE, as a form left blank makes it, would have boto check no certificate at all.
    verify = True if os.environ.get("AWS_CA_BUNDLE") == "" else None
    region = os.environ.get("AWS_REGION") or None
    return boto3.session.Session().client("s3", config=config, region_name=region, verify=verify)


def forget() -> None:
    """Make a new client at the next request: where the environment has changed, and in a process that was forked, which
    must not share a connection with its parent."""
    global _one_at_a_time
    _one_at_a_time = Lock()
    _client.cache_clear()


_one_at_a_time = Lock()
os.register_at_fork(after_in_child=forget)


def bucket_and_key(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise ValueError(f"{url}: no bucket; write s3://bucket/key")
    return bucket, key


class Patience:
    """Pauses between attempts, and an end to them."""

    told_at = -math.inf  # of the whole process: an outage meets many requests at once

    def __init__(self, url: str, operation: str) -> None:
        self.url, self.operation, self.limit_s = url, operation, _limit_s()
        self.progressed()

    def progressed(self) -> None:
        self.since, self.failures = time.monotonic(), 0

    def pause(self, error: Exception) -> None:
        """Wait before the next attempt, or raise what the error comes to."""
        waited_s = time.monotonic() - self.since
        if not _is_transient(error):
            refusal = _refusal(self.url, error)
            if not isinstance(refusal, ANSWERS):
                tally.count("errors", self.operation)
            raise refusal from None
        if waited_s >= self.limit_s:
            tally.count("errors", self.operation)
            raise OSError(
                f"{self.url}: {reason(error)} (tried {self.failures + 1} times in {waited_s:.0f} s)"
            ) from None
        if waited_s >= TELL_AFTER_S and time.monotonic() >= Patience.told_at + TELL_EVERY_S:
            Patience.told_at = time.monotonic()
            log.warning("%s: %s; trying for %.0f s more", self.url, reason(error), self.limit_s - waited_s)
        pause_s = min(0.1 * 2**self.failures, LONGEST_PAUSE_S, self.limit_s)
        time.sleep(pause_s * random.SystemRandom().uniform(0.5, 1))  # many workers must not come back at one moment
        self.failures += 1
        tally.count("retries", self.operation)


def _limit_s() -> float:
    text = os.environ.get("OAPSEG_S3_PATIENCE_S", str(PATIENCE_S))
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise ValueError(f"OAPSEG_S3_PATIENCE_S: must be seconds, is {text!r}")
    return float(text)


def call(url: str, operation: str, request: Callable[[Any, str, str], A], patience: Patience | None = None) -> A:
    """`request(client, bucket, key)`, tried again while that may help, and counted as one of `tally.OPERATIONS`.

    Errors: `FileNotFoundError` for a key that is not there; any other refusal is an `OSError`. Both of one line.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    bucket, key = bucket_and_key(url)
    patience = patience or Patience(url, operation)
    while True:
        began = time.monotonic()
        try:
            answer = request(client(), bucket, key)
            tally.count("requests", operation)
            tally.count("seconds", operation, time.monotonic() - began)
            return answer
        except (BotoCoreError, ClientError, ResponseParserError, HTTPError) as error:
            patience.pause(error)
        except ValueError as error:  # an AWS_ENDPOINT_URL that is none
            raise OSError(f"{url}: {reason(error)}") from None


class RangeError(OSError):
    """A range that begins where the object has ended."""


ANSWERS = (FileNotFoundError, FileExistsError, RangeError)  # refusals that a caller may well expect


def _is_transient(error: Exception) -> bool:
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        return (status >= 500 and status != 501) or status == 429 or _code(error) in TRANSIENT_CODES
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    way = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError)
    return isinstance(error, way) or not isinstance(error, exceptions.BotoCoreError)


def _refusal(url: str, error: Exception) -> OSError:
    """What S3 will not do, as a line that says what to look at."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return OSError(f"{url}: {reason(error)}")
    code = _code(error)
    status = error.response["ResponseMetadata"].get("HTTPStatusCode")
    if code == "NoSuchBucket":
        return OSError(f"{url}: no such bucket")
    if code == "InvalidRange":
        return RangeError(f"{url}: the range begins beyond its end")
    if status == 404:
        return FileNotFoundError(f"{url}: no such object")
    if status == 412:
        return FileExistsError(f"{url}: is there already")
    if code in ACCESS_CODES:
        return PermissionError(
            f"{url}: S3 refuses access ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their rights"
        )
    return OSError(f"{url}: {reason(error)}")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def reason(error: Exception) -> str:
    """An error's text as one line, without the user and password that an endpoint's URL may hold."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"//[^/@\s]+@", "//", text)
