"""The one queue of hub and agent: keys in, passes out.

A pass looks at everything about its key, so asking twice is asking once. Per key one pass runs at a time and no
sooner than a pace after the last began; a failed pass comes again after a growing, jittered pause; a
pass may ask to be called again. What an event asks for always wins over a later time.
"""

import asyncio
import heapq
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
_REST: Final = 4.0
"""A pass that took so long keeps the next one away for this many times as long, from its own beginning."""


class Meter(Protocol):
    """Is told of every pass."""

    def __call__(self, queue: str, seconds: float, outcome: str) -> None:
        """`outcome`: `done` or `failed`."""


@dataclass(slots=True)
class _State:
    due: float | None = None
    """When the next pass is to run; None: no pass is wanted."""
    running: bool = False
    began: float = float("-inf")
    pace: float = 0.0
    """Seconds from then until the next pass may begin."""
    gone: bool = False
    failures: int = 0
    errors: list[str] = field(default_factory=list)


class Queue(Generic[K]):
    """Runs `do(key)` for every key added. `do` returns seconds until it wants to run again, or None."""

    def __init__(
        self,
        name: str,
        do: Callable[[K], Awaitable[float | None]],
        *,
        workers: int = 4,
        pace: float = 0.0,
        quick: float | None = None,
        first_backoff: float = 1.0,
        longest_backoff: float = 60.0,
        meter: Meter | None = None,
    ) -> None:
        """`pace` and the backoffs are seconds; after a pass that was short the next may begin from `quick` on.

        So a small fleet is answered at once, and a large one, whose pass costs a good part of a second, is not
        looked at all the time.
        """
        self.name = name
        self._do = do
        self._pace = pace
        self._quick = pace if quick is None else quick
        self._backoff = (first_backoff, longest_backoff)
        self._meter = meter
        self._workers = workers
        self._states: dict[K, _State] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Keys whose pass is due or running now."""
        now = self._now()
        return sum(1 for s in self._states.values() if s.running or (s.due is not None and s.due <= now))

    def add(self, key: K, after: float = 0.0) -> None:
        """Ask for a pass over `key`, `after` seconds from now at the latest."""
        state = self._states.setdefault(key, _State())
        state.gone = False
        self._ask(key, state, self._now() + after)

    def forget(self, key: K) -> None:
        """Drop all about a key that is gone; also from within its own pass."""
        state = self._states.get(key)
        if state is not None:
            state.due, state.gone = None, True
            if not state.running:
                del self._states[key]

    def failing(self) -> dict[K, str]:
        """Keys whose last pass failed, and why."""
        return {key: s.errors[-1] for key, s in self._states.items() if s.failures}

    async def run(self) -> None:
        """Work until `stop`, then let running passes end. Passes' exceptions end nothing."""
        try:
            while not self._stopping:
                self._start_due()
                await self._sleep()
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """Start no more passes; `run` returns when the running ones have ended."""
        self._stopping = True
        self._wake.set()

    # -- inside -----------------------------------------------------------------------------------------
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _ask(self, key: K, state: _State, due: float) -> None:
        if not state.running:  # the pace is not known before a pass has ended
            due = max(due, state.began + state.pace)
        if state.due is not None and state.due <= due:
            return
        state.due = due
        if not state.running:
            self._push(key, due)

    def _push(self, key: K, due: float) -> None:
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key))
        self._wake.set()

    def _start_due(self) -> None:
        now = self._now()
        while self._heap and self._heap[0][0] <= now and len(self._tasks) < self._workers:
            due, _, key = heapq.heappop(self._heap)
            state = self._states.get(key)
            if state is None or state.running or state.due != due:
                continue  # an earlier asking has taken its place
            state.due, state.running, state.began = None, True, now
            task = asyncio.create_task(self._pass(key, state), name=f"{self.name} {key}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _sleep(self) -> None:
        self._wake.clear()
        full = len(self._tasks) >= self._workers
        pause = None if full or not self._heap else max(0.0, self._heap[0][0] - self._now())
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _pass(self, key: K, state: _State) -> None:
        began = self._now()
        outcome = "done"
        try:
            again = await self._do(key)
            state.failures = 0
            state.errors.clear()
        except Exception as error:  # noqa: BLE001  a pass over one key must not end the passes over all others
            outcome = "failed"
            again = self._failed(key, state, error)
        finally:
            state.running = False
            took = self._now() - began
            state.pace = min(self._pace, max(self._quick, _REST * took))
            if self._meter:
                self._meter(self.name, took, outcome)
        wanted, state.due = state.due, None
        times = [wanted, None if again is None else self._now() + again]
        if asked := [moment for moment in times if moment is not None]:
            self._ask(key, state, min(asked))
        elif state.gone or not self._pace:  # a paced key is kept: its last pass paces the next
            del self._states[key]

    def _failed(self, key: K, state: _State, error: Exception) -> float:
        state.failures += 1
        text = str(error) or type(error).__name__
        first, longest = self._backoff
        steps: int = 2 ** min(state.failures - 1, 20)
        pause = min(longest, first * steps) * random.uniform(0.7, 1.0)  # noqa: S311  jitter
        asked: float = getattr(error, "retry_after", None) or 0.0
        pause = max(pause, asked)
        expected = getattr(error, "expected", False)
        log.warning(
            "Pass failed",
            exc_info=None if expected else error,
            extra={"queue": self.name, "key": str(key), "error": text, "again": round(pause, 2)},
        )
        state.errors[:] = [text]
        return pause
