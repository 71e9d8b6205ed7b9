"""A server in a thread of the test, and requests to it."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from oapseg.params import Params, default_params_path, load_params
from oapseg.serve.command import Server, listening
from oapseg.serve.model import Source
from oapseg.serve.service import Service

PARAMS = load_params(default_params_path())
QUICK = {
    "port": 0,
    "device": "cpu",
    "precision": "fp32",
    "leave_s": 0.0,
    "min_score": 0.0,
    "answers": 1,
    "ahead_s": 3600.0,
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)


class Running(NamedTuple):
    """A server at work, and the way to it."""

    service: Service
    server: Server
    port: int

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def masks(self, photo: bytes, query: str = "", headers: dict[str, str] | None = None) -> Answer:
        return self.ask("POST", f"/v1/masks?{query}", photo, headers)

    def metric(self, name: str, **labels: str) -> float:
        value = self.service.metrics.registry.get_sample_value(name, labels)
        assert value is not None, f"no {name} {labels}"
        return value


@contextmanager
def running(location: str | Path, **changes: Any) -> Iterator[Running]:
    """A server of a model until the end of this, when it has to have left in order."""
    params = changed(**changes)
    with listening(params.serve) as door:
        server = Server(Service(Source(str(location), params)))
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            port = door.getsockname()[1]
            until(lambda: server.started)
            yield Running(server.service, server, port)
        finally:
            server.handle_exit()
            thread.join(120)
    assert not thread.is_alive()


def changed(**changes: Any) -> Params:
    """The shipped parameters, quick for a test."""
    return PARAMS.model_copy(update={"serve": PARAMS.serve.model_copy(update=QUICK | changes)})


def until(true: Any, timeout_s: float = 120) -> None:
    """Wait for something that happens in another thread."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
