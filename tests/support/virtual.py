"""Hours in milliseconds: an event loop whose clock jumps to the next thing that is due. For code without real I/O."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from typing_extensions import override

T = TypeVar("T")
_LEAST = 1e-6
"""Seconds: a wait that is too short for the clock to show it would stop time for ever."""


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: says how long it would have waited."""

    jumped = 0.0

    @override
    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            self.jumped += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that begins at 0 seconds."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    @override
    def time(self) -> float:
        return self._jumping.jumped

    @override
    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return super().call_at(max(when, self.time() + _LEAST), callback, *args, context=context)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in no time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
