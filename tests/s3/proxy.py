"""A network between client and server that breaks when told to: resets in mid-object, 503s, a server that is gone."""

import contextlib
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlparse

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Reset(NamedTuple):
    """Cut a connection, with no farewell, once so many bytes of answers (or of requests) have passed."""

    after_bytes: int
    of_requests: bool = False


class Outage(NamedTuple):
    """The server is gone for so long, from the moment that so many bytes of answers (or of requests) have passed."""

    after_bytes: int
    seconds: float
    of_requests: bool = False


class Proxy:
    """Passes TCP connections on to an endpoint. `faults` are met in order, one by each new connection."""

    def __init__(self, endpoint: str) -> None:
        target = urlparse(endpoint)
        self.target = (str(target.hostname), int(target.port or 80))
        self.faults: deque[Reset | Outage | bytes] = deque()
        self.met = 0
        self._listener = _listen(0)
        self._port = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._down = threading.Event()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def break_next(self, *faults: Reset | bytes) -> None:
        """Faults for the next connections; those that are open are cut, so that there are next ones."""
        self.down()
        self.faults.extend(faults)
        self.up()

    def down(self) -> None:
        """The server is gone: connections are cut, new ones refused."""
        self._down.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def up(self) -> None:
        self._down = threading.Event()
        self._listener = _listen(self._port)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        down = self._down
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                threading.Thread(target=self._serve, args=(client, down), daemon=True).start()

    def _serve(self, client: socket.socket, down: threading.Event) -> None:
        fault = self.faults.popleft() if self.faults else None
        with contextlib.suppress(OSError), client:
            if isinstance(fault, bytes):
                self.met += 1
                _head(client)
                client.sendall(fault)
                return
            with socket.create_connection(self.target) as server:
                self._pass_on(client, server, fault, down)

    def _pass_on(
        self, client: socket.socket, server: socket.socket, fault: Reset | Outage | None, down: threading.Event
    ) -> None:
        passed = {client: 0, server: 0}
        while not down.is_set():
            for source in select.select([client, server], [], [], 0.05)[0]:
                data = source.recv(65536)
                if not data:
                    return
                passed[source] += len(data)
                if fault and passed[client if fault.of_requests else server] > fault.after_bytes:
                    self.met += 1
                    if isinstance(fault, Outage):
                        self.down()
                        threading.Timer(fault.seconds, self.up).start()
                    _cut(client)
                    return
                (server if source is client else client).sendall(data)
        _cut(client)


@contextlib.contextmanager
def proxy(endpoint: str) -> Iterator[Proxy]:
    between = Proxy(endpoint)
    try:
        yield between
    finally:
        between.down()


def _listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=128)


def _head(client: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        data = client.recv(65536)
        if not data:
            return
        received += data


def _cut(client: socket.socket) -> None:
    """Close with a reset: the other side sees a broken connection, not the end of an answer."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
