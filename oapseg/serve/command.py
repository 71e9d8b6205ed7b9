"""Masks over HTTP, for many at a time, with health, metrics for Prometheus, and a page to try it on.

    oapseg serve
    curl --data-binary @street.jpg 'http://127.0.0.1:8080/v1/masks?min_score=0.3'

Without `--model` it is the registry's champion. Section `serve` of params.yaml says how much is taken at a time.
SIGTERM: /readyz says no, what was taken is answered, and the exit code is 0.
"""

import argparse
import math
import socket
import time
import warnings
from typing import Any

import uvicorn
from PIL import Image

from oapseg.params import Params, ServeParams, load_params, parse_params
from oapseg.serve.app import make_app
from oapseg.serve.model import Source
from oapseg.serve.service import Service
from oapseg.use.resolved import CHAMPION

KEEP_ALIVE_S = 30  # that an idle connection is kept
BACKLOG = 512  # connections that wait to be accepted
HEADER_BYTES = 32_768


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=CHAMPION, help="folder, s3:// URL, or models:/NAME@ALIAS (default: %(default)s)"
    )
    parser.add_argument("--host", help="address to listen on, 0.0.0.0 for every one; default: serve.host")
    parser.add_argument("--port", help="0 for any that is free; default: serve.port")
    parser.add_argument(
        "--follow", metavar="SECONDS", help="look so often whether the alias has moved; default: serve.follow_s"
    )


def main(args: argparse.Namespace) -> None:
    params = _params(args)
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large photos are refused by size
    with listening(params.serve) as door:
        service = Service(Source(args.model, params))
        host, port = door.getsockname()[:2]
        named = service.served.named
        print(
            f"oapseg serve: {args.model}, version {named.version or '-'}, sha256 {named.sha256[:12]}: http://{host}:{port}",
            flush=True,
        )
        Server(service).run([door])
    print("oapseg serve: every request that was taken is answered", flush=True)


class Server(uvicorn.Server):
    """Leaves in order: no more welcome, then no new connection, then every answer, then exit code 0."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                make_app(service),
                http="h11",
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=round(settings.drain_s) or 1,
                h11_max_incomplete_event_size=HEADER_BYTES,
            )
        )
        self.service, self.leave_at = service, math.inf

    def handle_exit(self, *_: Any) -> None:
        """A signal, of which uvicorn's own note is not taken: by that it would kill itself with it in the end.

        Balancers see `/readyz` for `leave_s` before the door is shut; a second signal shuts it at once, a third
        leaves those inside unanswered.
        """
        self.force_exit = self.should_exit
        self.leave_at = -math.inf if self.service.leaving else time.monotonic() + self.service.settings.leave_s
        self.service.leaving = True

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self.leave_at
        return await super().on_tick(counter)


def _params(args: argparse.Namespace) -> Params:
    """The parameters with what the command line says instead.

    Errors: `ValueError` of one line where a value is out of range.
    """
    params = load_params(args.params)
    flags: dict[str, Any] = {"host": args.host, "port": _number(args.port), "follow_s": _number(args.follow)}
    said = {key: value for key, value in flags.items() if value is not None}
    if not said:
        return params
    whole = params.model_dump(mode="json", by_alias=True)
    return parse_params(whole | {"serve": whole["serve"] | said}, "command line")


def _number(text: str | None) -> int | float | str | None:
    """A number where it is one; what is none is refused with the others."""
    try:
        return None if text is None else int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text


def listening(settings: ServeParams) -> socket.socket:
    """Errors: `ValueError` where the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]  # of Python's own addition, which says the address again
        raise ValueError(f"serve.port: {settings.host}:{settings.port} cannot be listened on ({why})") from None
