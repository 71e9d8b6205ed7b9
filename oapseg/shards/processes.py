"""Loader processes: forked from a server that holds no accelerator and no thread, and has imported what they need.

Imports take a process seconds, so the server is started first thing (`start`), and imports while its parent does.
"""

import os
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver

METHOD = "forkserver"  # a fork of a process that holds CUDA or threads is not safe
PRELOADED = ["oapseg.shards.read", "boto3"]


def start() -> None:
    """Start the server, unless there is one; it ends with this process."""
    forkserver.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def in_this_environment() -> Callable[[int], None]:
    """What a worker does first: the server may be older than a variable that this process has set."""
    return partial(_adopt, dict(os.environ))


def _adopt(environment: dict[str, str], _: int) -> None:
    os.environ.clear()
    os.environ.update(environment)
