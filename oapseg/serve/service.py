"""Photos in, masks out, for many at a time: places, batches, threads, and the model that follows its alias."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from starlette.requests import Request

from oapseg.model.predicted import Predicted
from oapseg.serve.masks import Abandoned, Asked, MaskQuery, Named
from oapseg.serve.metrics import Metrics
from oapseg.serve.model import Source
from oapseg.serve.queue import Batches, Places
from oapseg.serve.refused import STATUS, Refused
from oapseg.serve.upload import check_photo, decode_photo, read_body
from oapseg.use.tasks import Layout

MB = 1_000_000
LOG = logging.getLogger("uvicorn.error")
Result = TypeVar("Result")
Seen = tuple[Predicted, Named]  # and whose it is: the model may change between a photo and the next


class Service:
    """Everything behind the routes. `leaving` is true from SIGTERM on."""

    def __init__(self, source: Source) -> None:
        self.source, self.settings, evaluate = source, source.params.serve, source.params.evaluate
        self.layout = Layout(evaluate.panoptic_score, evaluate.panoptic_overlap, evaluate.stuff_px)
        self.served = source.load()
        self.metrics = Metrics(list(STATUS))
        self.places = Places(self.settings.queue, self.settings.queue_mb * MB)
        most_pixels = round(self.settings.megapixels * MB)
        self.batches: Batches[bytes, Seen] = Batches(
            self._run,
            self.settings.batch,
            most_pixels,
            self.settings.wait_ms / 1000,
            self.settings.ahead_s,
            self.served.pace_s(),
        )
        self.leaving = False
        self.model_thread = ThreadPoolExecutor(1, "model")
        self._decoders = ThreadPoolExecutor(self.settings.answers, "decode")
        self._writers = ThreadPoolExecutor(self.settings.answers, "answer")
        self._measure()

    @property
    def name(self) -> str:
        """Of the model, as the protocols of KServe ask for it."""
        return self.served.named.name

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Batches are run, and the alias followed, until the end of this."""
        jobs = [asyncio.create_task(self.batches.work())]
        if self.settings.follow_s is not None:
            jobs.append(asyncio.create_task(self._follow(self.settings.follow_s)))
        try:
            yield
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            for threads in (self.model_thread, self._decoders, self._writers):
                threads.shutdown(wait=False, cancel_futures=True)

    def asked(self, query: MaskQuery, *, png: bool = False) -> Asked:
        return Asked.of(query, png=png, min_score=self.settings.min_score, layout=self.layout)

    async def upload(self, request: Request, grown: Callable[[int], None], max_bytes: int | None = None) -> bytes:
        """The body of a request; see `read_body`."""
        with self.metrics.phase("upload"):
            most = self.settings.upload_mb * MB if max_bytes is None else max_bytes
            return await read_body(request, most, self.settings.upload_s, grown)

    async def seen(self, photo: bytes) -> Seen:
        """What the model sees in a photo, and which model.

        Errors: `Refused` where the bytes are no photo, or too many are before it.
        """
        pixels = await self._in(self._decoders, check_photo, photo, self.settings.megapixels)
        with self.metrics.phase("wait_and_model"):
            return await self.batches.submit(photo, pixels)

    async def written(
        self, write: Callable[[Predicted, Asked, Named, Abandoned], Result], seen: Seen, asked: Asked
    ) -> Result:
        """What `write` makes of what was seen, in a thread that stops early where nobody waits any more."""
        abandoned = threading.Event()
        with self.metrics.phase("answer"):
            try:
                return await self._in(self._writers, write, seen[0], asked, seen[1], abandoned.is_set)
            finally:
                abandoned.set()

    async def whole(self, request: Request, work: Awaitable[Result]) -> Result:
        """The result of work on a request whose body was read.

        Errors: `Refused` where it takes too long, or where nobody waits for it any more: then it is not done.
        """
        job, gone = asyncio.ensure_future(work), asyncio.create_task(_gone(request))
        try:
            done, _ = await asyncio.wait(
                {job, gone}, timeout=self.settings.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if job in done:
                return job.result()
            if gone in done:
                raise Refused("gone", "the sender has gone")
            raise Refused("timeout", f"no answer within {self.settings.timeout_s:g} s; try again later")
        finally:
            for each in (job, gone):
                each.cancel()
            await asyncio.gather(job, gone, return_exceptions=True)

    async def _run(self, photos: list[bytes]) -> list[Seen | Exception]:
        return await self._in(self.model_thread, self._look, photos)

    def _look(self, photos: list[bytes]) -> list[Seen | Exception]:
        """A batch, in the model's thread; a photo that cannot be decoded costs the others nothing."""
        served, megapixels = self.served, self.settings.megapixels
        decoded = list(self._decoders.map(lambda data: _tried(lambda: decode_photo(data, megapixels)), photos))
        whole = [photo for photo in decoded if not isinstance(photo, Exception)]
        self.metrics.batch.observe(len(photos))
        with self.metrics.phase("model"):
            looks = iter(served.predict(whole) if whole else [])
        return [photo if isinstance(photo, Exception) else (next(looks), served.named) for photo in decoded]

    async def _follow(self, every_s: float) -> None:
        """Serve what the place of the model holds now. A look that fails changes nothing; the next one tries again."""
        told = ""
        while True:
            await asyncio.sleep(every_s)
            try:
                await asyncio.to_thread(self._look_again)
                told = ""
            except Exception as error:  # noqa: BLE001 - whatever ends a look, such as a full GPU, must not end all looks
                self.metrics.follow_errors.inc()
                line = _line(error)
                if line != told:  # a place that stays broken is one line, not one a look
                    LOG.warning("serve: %s: still the model from before (%s)", self.source.location, line)
                told = line

    def _look_again(self) -> None:
        present = self.source.present()
        if present == self.served.present:
            return
        fresh = self.source.load()
        self.served = fresh  # batches that have begun end with the one before
        self.metrics.swaps.inc()
        self.metrics.serves(fresh.named)
        LOG.warning("serve: %s is now version %s, sha256 %s", self.name, fresh.named.version, fresh.named.sha256)

    def _measure(self) -> None:
        metrics = self.metrics
        metrics.serves(self.served.named)
        metrics.queue.set_function(lambda: len(self.batches.waiting))
        metrics.wait.set_function(self.batches.expected_wait_s)
        metrics.places.set_function(lambda: self.places.taken)
        metrics.bytes.set_function(lambda: self.places.bytes)
        metrics.ready.set_function(lambda: float(not self.leaving))

    async def _in(self, threads: ThreadPoolExecutor, act: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(threads, act, *arguments)


@asynccontextmanager
async def counted(metrics: Metrics) -> AsyncIterator[None]:
    """A request for masks, however it ends."""
    begin, reason = time.perf_counter(), "failed"
    try:
        yield
        reason = ""
    except Refused as refused:
        reason = refused.reason
        raise
    except asyncio.CancelledError:
        reason = "gone"
        raise
    finally:
        metrics.ended(reason or None, time.perf_counter() - begin)


def _tried(act: Callable[[], Result]) -> Result | Exception:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - whatever a hostile file does to a decoder is told to its sender alone
        return error


async def _gone(request: Request) -> None:
    with suppress(RuntimeError):
        while (await request.receive())["type"] != "http.disconnect":
            pass


def _line(error: Exception) -> str:
    """What is wrong; of an error that bad input does not raise, its kind too."""
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())
