"""Hours in milliseconds: an event loop whose clock jumps to the next thing that is due. For code without real I/O."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from typing_extensions import override

T = TypeVar("T")


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


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in no time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
