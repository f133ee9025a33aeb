"""A limit on bytes holds over time, for all downloads together, and is felt when it changes. Waits are checked from below only."""

import asyncio
import time

from edgefleet.bundle import Throttle


async def seconds_for(throttle: Throttle, *portions: int) -> float:
    begun = time.monotonic()
    for number in portions:
        await throttle.passed(number)
    return time.monotonic() - begun


async def test_without_a_limit_nothing_waits_and_large_portions_are_read() -> None:
    free = Throttle()

    async with asyncio.timeout(20):
        assert free.portion == 1 << 18
        await seconds_for(free, *([1 << 30] * 1000))


async def test_bytes_take_as_long_as_the_limit_says() -> None:
    assert await seconds_for(Throttle(100_000), 25_000, 25_000, 25_000) >= 0.7


async def test_two_downloads_share_one_limit() -> None:
    shared = Throttle(100_000)
    begun = time.monotonic()
    await asyncio.gather(*(seconds_for(shared, 20_000, 20_000) for _ in range(2)))

    assert time.monotonic() - begun >= 0.75


async def test_time_without_a_download_is_saved_up_for_a_second_at_most() -> None:
    now = [0.0]
    throttle = Throttle(1000, clock=lambda: now[0])
    now[0] = 3600.0
    await throttle.passed(1000)
    waiting = asyncio.create_task(throttle.passed(1000))
    await asyncio.sleep(0.05)

    assert not waiting.done()
    now[0] += 1.0
    async with asyncio.timeout(20):
        await waiting


async def test_a_limit_that_is_lifted_or_raised_is_felt_by_who_waits() -> None:
    for limit in (None, 1e12):
        throttle = Throttle(1.0)
        waiting = asyncio.create_task(throttle.passed(1_000_000))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        throttle.limit = limit
        async with asyncio.timeout(20):
            await waiting


async def test_one_who_gives_up_leaves_the_way_to_the_others() -> None:
    throttle = Throttle(1.0)
    waiting = asyncio.create_task(throttle.passed(1_000_000))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    throttle.limit = None

    async with asyncio.timeout(20):
        await throttle.passed(1)


def test_small_limits_read_small_portions() -> None:
    assert [Throttle(limit).portion for limit in (1.0, 64 << 10, 1 << 30)] == [1 << 10, 16 << 10, 1 << 18]
