"""The queue before the model: batches as large as they may be, places for so many, and nothing left behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from oapseg.serve.queue import Batches, Places
from oapseg.serve.refused import Refused

pytestmark = pytest.mark.anyio
Run = Callable[[list[int]], Awaitable[list[int | Exception]]]


@contextlib.asynccontextmanager
async def working(run: Run, size: int = 4, weight: int = 100, wait_s: float = 0.05) -> AsyncIterator[Batches[int, int]]:
    batches = Batches(run, size, weight, wait_s)
    job = asyncio.create_task(batches.work())
    try:
        yield batches
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def seen_by(run: list[list[int]]) -> Run:
    async def doubled(items: list[int]) -> list[int | Exception]:
        run.append(items)
        await asyncio.sleep(0.01)
        return [2 * item for item in items]

    return doubled


async def test_each_item_gets_its_own_result_and_no_batch_is_too_large() -> None:
    run: list[list[int]] = []
    async with working(seen_by(run)) as batches:
        results = await asyncio.gather(*(batches.submit(item, 1) for item in range(10)))
    assert results == [2 * item for item in range(10)]
    assert run == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_a_batch_weighs_no_more_than_is_allowed_save_one_item_alone() -> None:
    run: list[list[int]] = []
    async with working(seen_by(run), size=8) as batches:
        await asyncio.gather(*(batches.submit(weight, weight) for weight in (60, 30, 30, 500, 5)))
    assert run == [[60, 30], [30], [500], [5]]


async def test_one_item_alone_does_not_wait_for_a_full_batch() -> None:
    async with working(seen_by([]), wait_s=0.02) as batches, asyncio.timeout(5):
        assert await batches.submit(3, 1) == 6


async def test_an_error_of_one_item_is_that_item_s_alone() -> None:
    async def odd_ones_fail(items: list[int]) -> list[int | Exception]:
        return [Refused("damaged", f"{item}") if item % 2 else item for item in items]

    async with working(odd_ones_fail) as batches:
        results = await asyncio.gather(*(batches.submit(item, 1) for item in range(4)), return_exceptions=True)
    assert [str(each) for each in results] == ["0", "1", "2", "3"]
    assert [isinstance(each, Refused) for each in results] == [False, True, False, True]


async def test_a_batch_that_fails_is_told_to_each_and_the_next_one_runs() -> None:
    async def fails_once(items: list[int]) -> list[int | Exception]:
        if 0 in items:
            raise FloatingPointError("not finite")
        return list(items)

    async with working(fails_once, size=2) as batches:
        results = await asyncio.gather(*(batches.submit(item, 1) for item in range(4)), return_exceptions=True)
    assert [type(each) for each in results] == [FloatingPointError, FloatingPointError, int, int]


async def test_whoever_stops_waiting_is_in_no_batch() -> None:
    run: list[list[int]] = []
    async with working(seen_by(run), size=2) as batches:
        waiting = [asyncio.create_task(batches.submit(item, 1)) for item in range(6)]
        await asyncio.sleep(0)
        for task in waiting[2:5]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not batches.waiting
    assert run == [[0, 1], [5]]


async def test_an_item_with_too_much_before_it_is_refused_at_once_and_told_when_to_come_again() -> None:
    async with working(seen_by([]), size=2) as batches:
        batches.ahead_s, batches.pace_s = 20.0, 8.0
        waiting = [asyncio.create_task(batches.submit(item, 1)) for item in range(3)]
        await asyncio.sleep(0)
        assert batches.expected_wait_s() == 24
        with pytest.raises(Refused, match="3 photos are before this one, 24 s") as refused:
            await batches.submit(3, 1)
        assert (refused.value.status, refused.value.retry_s) == (503, 24 - 20 + 24 / 4)
        assert await asyncio.gather(*waiting) == [0, 2, 4]


async def test_an_item_with_nothing_before_it_is_taken_however_slow_the_pace_is() -> None:
    async with working(seen_by([])) as batches:
        batches.ahead_s, batches.pace_s = 0.001, 1000.0
        assert await batches.submit(5, 1) == 10


async def test_the_pace_is_that_of_the_latest_batches_and_what_is_worked_on_counts_as_before_one() -> None:
    held = asyncio.Event()

    async def until_let_go(items: list[int]) -> list[int | Exception]:
        await held.wait()
        return list(items)

    async with working(until_let_go, size=2) as batches:
        batches.pace_s = 100.0
        waiting = [asyncio.create_task(batches.submit(item, 1)) for item in range(3)]
        await asyncio.sleep(0.01)
        assert (batches.running, len(batches.waiting), batches.expected_wait_s()) == (2, 1, 300)
        held.set()
        await asyncio.gather(*waiting)
        assert 0 < batches.pace_s < 100 * 0.75**2
        assert batches.expected_wait_s() == 0


async def test_a_place_is_left_however_a_request_ends_and_one_too_many_is_refused() -> None:
    places = Places(2, 100)
    with places.place() as first, places.place():
        first(70)
        with pytest.raises(Refused, match="2 requests"), places.place():
            pass
    with pytest.raises(Refused, match="0 bytes"), places.place() as grown:
        grown(101)
    assert (places.taken, places.bytes) == (0, 0)


async def test_bytes_of_all_requests_together_are_bounded() -> None:
    places = Places(5, 100)
    with places.place() as first:
        first(70)
        with pytest.raises(Refused, match="70 bytes"), places.place() as second:
            second(31)
        assert places.bytes == 70
