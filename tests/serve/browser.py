"""Chromium without a screen, driven by its DevTools protocol: real pointers, keys and files."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

WAIT_S = 60.0


class Browser:
    """One page."""

    def __init__(self, address: str) -> None:
        self._line = websocket.create_connection(address, timeout=WAIT_S, suppress_origin=True)
        self._number = 0
        self.requests: list[str] = []  # every address that the page asked for
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._line.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._line.recv())
            self._note(said)
            if said.get("id") == self._number:
                assert "error" not in said, said
                return said["result"]

    def _note(self, said: Any) -> None:
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["params"]["request"]["url"])
        if said.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["params"]))
        if said.get("method") == "Log.entryAdded":
            entry = said["params"]["entry"]  # the network's are answers such as 415, which the page tells itself
            self.errors += [json.dumps(entry)] * (entry["level"] == "error" and entry["source"] != "network")

    def run(self, expression: str) -> Any:
        """The value of an expression of the page's own language."""
        said = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def open(self, address: str, *, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        self.requests.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def until(self, expression: str) -> None:
        """Wait for something on the page."""
        end = time.monotonic() + WAIT_S
        while not self.run(expression):
            assert time.monotonic() < end, f"never {expression}; the page says {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def point(self, x: float, y: float, *, press: bool = False) -> None:
        """Move the pointer, and press its button."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if press else ():
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose(self, selector: str, file: Path) -> None:
        """A file for an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def close(self) -> None:
        self._line.close()

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A fresh Chromium whose profile is in the folder; skips where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here; Debian has it as chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    options += ["--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            port = _port(folder / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=WAIT_S) as answer:
                pages = [each for each in json.load(answer) if each["type"] == "page"]
            page = Browser(pages[0]["webSocketDebuggerUrl"])
            yield page
            page.close()
        finally:
            process.terminate()


def _port(file: Path) -> int:
    end = time.monotonic() + WAIT_S
    while not (file.exists() and file.read_text().count("\n")):
        assert time.monotonic() < end, "Chromium does not start"
        time.sleep(0.05)
    return int(file.read_text().split()[0])
