"""Requests wait here until the model has a hand free, and go to it in batches."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from oapseg.serve.refused import RETRY_S, Refused

LATEST = 0.3  # weight of the latest batch in the pace
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Places:
    """How many requests, and how many bytes of them, are in the house; each place is left however a request ends."""

    most: int
    most_bytes: int
    taken: int = 0
    bytes: int = 0

    @contextlib.contextmanager
    def place(self, count: int = 1) -> Iterator[Callable[[int], None]]:
        """A place, and what to call with the bytes that come in.

        Errors: `Refused` where all places or bytes are taken.
        """
        held = 0

        def grown(size: int) -> None:
            nonlocal held
            if self.bytes + size > self.most_bytes:
                raise Refused("queue_full", f"busy: {self.bytes} bytes of uploads are waiting; try again")
            self.bytes += size
            held += size

        if self.taken + count > self.most:
            raise Refused("queue_full", f"busy: {self.taken} requests are on their way; try again")
        self.taken += count
        try:
            yield grown
        finally:
            self.taken -= count
            self.bytes -= held


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    weight: int
    result: asyncio.Future[Result | Exception]
    came: float  # on the loop's clock


@dataclass
class Batches(Generic[Item, Result]):
    """Items one by one in, batches to `run`: up to `size` items or `weight` together, `wait_s` after the first at most.

    `run` gives a result or an error for each item, in order. While it runs, others come together. Whoever stops waiting
    for an item takes it out of the queue. An item that would wait longer than `ahead_s` is not taken: who is told at
    once can go elsewhere or come again, and nothing is worked on that nobody waits for in the end.
    """

    run: Callable[[list[Item]], Awaitable[list[Result | Exception]]]
    size: int
    weight: int
    wait_s: float
    ahead_s: float = math.inf
    pace_s: float = 0.0  # of an item, by the batches so far; what is known before the first
    running: int = 0  # items that are worked on
    waiting: deque[_Waiting[Item, Result]] = field(default_factory=deque)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def expected_wait_s(self) -> float:
        """Of an item that comes now."""
        return self.pace_s * (len(self.waiting) + self.running)

    async def submit(self, item: Item, weight: int) -> Result:
        """The result of an item. Errors: its own, or `Refused` where too much is before it."""
        self._check_wait()
        loop = asyncio.get_running_loop()
        entry: _Waiting[Item, Result] = _Waiting(item, weight, loop.create_future(), loop.time())
        self.waiting.append(entry)
        self._came.set()
        try:
            result = await entry.result
        finally:
            with contextlib.suppress(ValueError):
                self.waiting.remove(entry)
        if isinstance(result, Exception):
            raise result
        return result

    async def work(self) -> None:
        """Run batches until this is cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            batch = await self._next()
            begin, self.running = clock(), len(batch)
            try:
                results: list[Result | Exception] = await self.run([entry.item for entry in batch])
            except Exception as error:  # noqa: BLE001 - one bad batch must not end the service; each sender is told
                results = [error] * len(batch)
            self.running = 0
            self.pace_s += LATEST * ((clock() - begin) / len(batch) - self.pace_s)
            for entry, result in zip(batch, results, strict=True):
                if not entry.result.done():
                    entry.result.set_result(result)

    def _check_wait(self) -> None:
        """Who is refused is to come again after a quarter of the wait: to a queue that has not run empty meanwhile."""
        expected = self.expected_wait_s()
        if expected > self.ahead_s:
            before = len(self.waiting) + self.running
            line = f"busy: {before} photos are before this one, {expected:.0f} s at the present pace; try again"
            raise Refused("queue_full", line, max(RETRY_S, expected - self.ahead_s + expected / 4))

    async def _next(self) -> list[_Waiting[Item, Result]]:
        while not self.waiting:
            self._came.clear()
            await self._came.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self.waiting[0].came + self.wait_s):
                while len(self.waiting) < self.size:
                    self._came.clear()
                    await self._came.wait()
        batch: list[_Waiting[Item, Result]] = []
        weight = 0
        while self.waiting and len(batch) < self.size:
            if batch and weight + self.waiting[0].weight > self.weight:
                break
            entry = self.waiting.popleft()
            weight += entry.weight
            batch.append(entry)
        return batch or await self._next()
