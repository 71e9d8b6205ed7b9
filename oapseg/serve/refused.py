"""Why a request gets no masks: every reason there is, with its status, and the answer of one line."""

import asyncio
import contextlib
import json
import math
import time
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

LINGER_S = 2.0  # that the rest of a refused upload is read and thrown away, so that its sender comes to read the answer
RETRY_S = 1.0  # when a sender should try again, where nothing better is known

STATUS: Final = {
    "bad_query": 422,
    "bad_json": 422,
    "not_acceptable": 406,
    "unknown_model": 404,
    "empty": 422,
    "wrong_type": 415,
    "truncated": 422,
    "damaged": 422,
    "too_large": 413,
    "too_many_pixels": 413,
    "too_many_photos": 413,
    "slow_upload": 408,
    "queue_full": 503,
    "timeout": 504,
    "gone": 499,  # nobody reads it
    "failed": 500,
}


class Refused(Exception):  # noqa: N818 - the request is refused, the program is well
    """A request that is answered by a reason of `STATUS` and a line for people; one that is to come again, by when."""

    def __init__(self, reason: str, line: str, retry_s: float = RETRY_S) -> None:
        super().__init__(line)
        self.reason, self.status, self.retry_s = reason, STATUS[reason], retry_s

    def response(self) -> Response:
        return Refusal(self)


class Refusal(Response):
    """The error as JSON of one line; the connection is closed, after what is still being sent was thrown away.

    Closed at once, a sender in the middle of its upload would see a broken connection and no reason.
    """

    media_type = "application/json"

    def __init__(self, refused: Refused) -> None:
        headers = {"Connection": "close"}
        if refused.status in (503, 504):
            headers["Retry-After"] = str(math.ceil(refused.retry_s))
        super().__init__(error_json(refused.reason, str(refused)), refused.status, headers)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await _throw_away(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def error_json(reason: str, line: str) -> bytes:
    return json.dumps({"error": " ".join(line.split()), "reason": reason}).encode()


async def _throw_away(receive: Receive) -> None:
    end = time.monotonic() + LINGER_S  # a quick sender never lets the clock of the loop have its turn
    while time.monotonic() < end:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
