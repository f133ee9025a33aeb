"""The one queue of hub and agent."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from edgefleet.kube.work import Queue

Pass = Callable[[str], Awaitable[float | None]]


@asynccontextmanager
async def running(queue: Queue[str]) -> AsyncIterator[Queue[str]]:
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        queue.stop()
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110  the condition is any fact about the queue
            await asyncio.sleep(0.001)


async def test_asking_often_is_asking_once() -> None:
    passes: list[str] = []

    async def do(key: str) -> None:
        passes.append(key)

    queue = Queue("q", do)
    for _ in range(100):
        queue.add("a")
    queue.add("b")
    async with running(queue):
        await until(lambda: len(queue) == 0 and len(passes) >= 2)
    assert sorted(passes) == ["a", "b"]


async def test_what_is_asked_during_a_pass_gets_a_pass_after_it_and_never_two_at_a_time() -> None:
    at_a_time = highest = passes = 0
    release = asyncio.Event()

    async def do(_key: str) -> None:
        nonlocal at_a_time, highest, passes
        at_a_time += 1
        passes += 1
        highest = max(highest, at_a_time)
        await release.wait()
        at_a_time -= 1

    async with running(Queue("q", do)) as queue:
        queue.add("a")
        await until(lambda: passes == 1)
        queue.add("a")
        queue.add("a")
        await asyncio.sleep(0.02)
        assert passes == 1
        release.set()
        await until(lambda: passes == 2 and len(queue) == 0)
    assert (highest, passes) == (1, 2)


async def test_passes_over_one_key_are_paced_also_after_it_was_quiet() -> None:
    began: list[float] = []

    async def do(_key: str) -> None:
        began.append(asyncio.get_running_loop().time())

    async with running(Queue("q", do, pace=0.1)) as queue:
        queue.add("a")
        await until(lambda: len(began) == 1 and len(queue) == 0)
        queue.add("a")
        await until(lambda: len(began) == 2)
    assert began[1] - began[0] >= 0.1


async def test_a_short_pass_is_soon_followed_and_a_long_one_leaves_the_whole_pace() -> None:
    began: dict[str, list[float]] = {"short": [], "long": []}

    async def do(key: str) -> None:
        began[key].append(asyncio.get_running_loop().time())
        if len(began[key]) == 1:
            queue.add(key)  # what a pass writes comes back as news while it still runs
        if key == "long":
            await asyncio.sleep(0.2)

    queue = Queue("q", do, pace=0.6, quick=0.05)
    async with running(queue):
        queue.add("short")
        queue.add("long")
        await until(lambda: len(began["short"]) == 2)
        assert len(began["long"]) == 1
        await until(lambda: len(began["long"]) == 2)
    gaps = {key: times[1] - times[0] for key, times in began.items()}
    assert 0.05 <= gaps["short"] < 0.6 <= gaps["long"]


async def test_an_event_comes_before_a_later_time_and_replaces_it() -> None:
    passes: list[str] = []

    async def do(key: str) -> float:
        passes.append(key)
        return 60.0

    async with running(Queue("q", do)) as queue:
        queue.add("a")
        await until(lambda: len(passes) == 1)
        queue.add("a")
        await until(lambda: len(passes) == 2)
        queue.add("a", after=30.0)
        await asyncio.sleep(0.02)
    assert len(passes) == 2


async def test_a_pass_that_asks_for_it_runs_again() -> None:
    passes = 0

    async def do(_key: str) -> float | None:
        nonlocal passes
        passes += 1
        return 0.01 if passes < 3 else None

    async with running(Queue("q", do)) as queue:
        queue.add("a")
        await until(lambda: passes == 3)
        await asyncio.sleep(0.03)
    assert passes == 3


async def test_a_failed_pass_comes_again_later_and_later_and_others_go_on() -> None:
    failed: list[float] = []
    good: list[str] = []

    async def do(key: str) -> None:
        if key == "good":
            good.append(key)
            return
        failed.append(asyncio.get_running_loop().time())
        if len(failed) < 4:
            raise RuntimeError("not yet")

    queue = Queue("q", do, first_backoff=0.05, longest_backoff=0.4)
    async with running(queue):
        queue.add("bad")
        await until(lambda: len(failed) == 1)
        assert queue.failing() == {"bad": "not yet"}
        queue.add("good")
        await until(lambda: len(failed) == 4)
        await until(lambda: not queue.failing())
    gaps = [after - before for before, after in itertools.pairwise(failed)]
    assert gaps[0] >= 0.035
    assert gaps[2] > gaps[0]
    assert good == ["good"]


async def test_a_server_that_says_how_long_to_wait_is_obeyed() -> None:
    began: list[float] = []

    class BusyError(Exception):
        retry_after = 0.2

    async def do(_key: str) -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) == 1:
            raise BusyError

    async with running(Queue("q", do, first_backoff=0.001)) as queue:
        queue.add("a")
        await until(lambda: len(began) == 2)
    assert began[1] - began[0] >= 0.2


async def test_stopping_lets_running_passes_end_and_starts_no_other() -> None:
    ended: list[str] = []

    async def do(key: str) -> None:
        await asyncio.sleep(0.05)
        ended.append(key)

    queue = Queue("q", do, workers=1)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    queue.add("b")
    await asyncio.sleep(0.01)
    queue.stop()
    await task
    assert ended == ["a"]


async def test_no_more_passes_run_at_a_time_than_there_are_workers() -> None:
    at_a_time = highest = passes = 0

    async def do(_key: str) -> None:
        nonlocal at_a_time, highest, passes
        at_a_time += 1
        highest = max(highest, at_a_time)
        await asyncio.sleep(0.005)
        at_a_time -= 1
        passes += 1

    async with running(Queue("q", do, workers=3)) as queue:
        for number in range(20):
            queue.add(str(number))
        await until(lambda: passes == 20)
    assert highest == 3


async def test_a_forgotten_key_gets_no_pass() -> None:
    passes: list[str] = []

    async def do(key: str) -> None:
        passes.append(key)

    async with running(Queue("q", do)) as queue:
        queue.add("a", after=0.03)
        queue.forget("a")
        await asyncio.sleep(0.06)
    assert passes == []


async def test_a_key_forgotten_in_its_own_pass_leaves_nothing_behind_and_may_come_back() -> None:
    passes: list[str] = []

    async def do(key: str) -> None:
        passes.append(key)
        queue.forget(key)

    queue = Queue("q", do, pace=0.001)
    async with running(queue):
        queue.add("a")
        await until(lambda: len(passes) == 1 and len(queue) == 0)
        assert queue._states == {}
        queue.add("a")
        await until(lambda: len(passes) == 2)
