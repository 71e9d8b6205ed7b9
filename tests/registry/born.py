"""Processes that have imported MLflow and opened nothing: born of one server, which imports once for all of them.

A process that is forked from one with an open SQLite database must not use it.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext

PRELOADED = ["mlflow", "oapseg.registry.promote"]


def context() -> ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    return made
