"""Loader processes: forked from a server that holds no accelerator and no thread, and has imported what they need.

Imports take a process seconds, so the server is started first thing (`start`), and imports while its parent does.
"""

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver

METHOD = "forkserver"  # a fork of a process that holds CUDA or threads is not safe
LOOK_EVERY_S = 1.0
PRELOADED = ["oapseg.shards.read", "boto3"]


def start() -> None:
    """Start the server, unless there is one; it ends with this process."""
    forkserver.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def in_this_environment() -> Callable[[int], None]:
    """What a worker does first: the server may be older than a variable that this process has set.

    It also ends with this process, however that ends: server and worker would keep each other alive.
    """
    return partial(_begin, dict(os.environ), os.getpid())


def _begin(environment: dict[str, str], owner: int, _: int) -> None:
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=(owner,), daemon=True).start()


def _end_with(process: int) -> None:
    while True:
        time.sleep(LOOK_EVERY_S)
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            os._exit(1)
