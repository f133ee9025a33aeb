"""A long run in phases: each has its time, and what stopped one is told together with what was measured until then."""

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from edgefleet.kube import errors

from bench import gauges

_LOOK_EVERY: Final = 0.5
_GRACE: Final = 3.0
"""Seconds in which a server's end is seen after a request to it failed."""


class UnfinishedError(Exception):
    """A phase did not come to its end; `figures["unfinished"]` says why."""


@dataclass(kw_only=True)
class Phases:
    """What is measured, phase by phase, into `figures`."""

    box: float
    """Seconds a phase may take."""
    figures: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    """How far the present phase is."""
    awaited: str = ""
    """What the present phase waits for."""

    def gone(self) -> dict[str, Any]:
        """Programs that should run and have ended: name → how and last words."""
        return {}

    def so_far(self) -> dict[str, Any]:
        """What is worth seeing while something is waited for."""
        return {}

    async def phase(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Do one phase. Raises UnfinishedError."""
        self.progress, self.awaited = {}, ""
        began = time.monotonic()
        working, watching = asyncio.create_task(work), asyncio.create_task(self._until_gone())
        try:
            await asyncio.wait({working, watching}, timeout=self.box, return_when=asyncio.FIRST_COMPLETED)
            failed = working.exception() if working.done() else None
            if working.done() and failed is None:
                return
            if failed is not None:  # because of a server that ended?
                await asyncio.wait({watching}, timeout=_GRACE)
            gone = watching.result() if watching.done() else {}
        except asyncio.CancelledError:
            self.unfinished(name, "interrupted", began)
            raise
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)
        if failed is not None and not gone:
            traceback.print_exception(failed)
        what = self.awaited or name
        why = (
            f"{what}: not within {self.box:.0f} s" if failed is None else f"{type(failed).__name__}: {failed}"
        )
        self.unfinished(name, ", ".join(f"{each} ended" for each in gone) or why, began, gone)
        raise UnfinishedError

    def unfinished(self, phase: str, why: str, began: float, ended: dict[str, Any] | None = None) -> None:
        """Put down what stopped a phase, and how far it had come."""
        told = {"phase": phase, "why": why, "after_s": round(time.monotonic() - began, 1), **self.progress}
        self.figures["unfinished"] = told | ({"ended": ended} if ended else {})
        self.note(f"{phase} did not finish: {why}", **(ended or {}))

    async def _until_gone(self) -> dict[str, Any]:
        while True:
            if self.gone():
                await asyncio.sleep(_LOOK_EVERY)  # what it took along ends as well
                return self.gone()
            await asyncio.sleep(_LOOK_EVERY)

    async def until(self, true: Callable[[], Awaitable[bool]], what: str, *, every: float = 0.5) -> float:
        """Wait; returns the seconds it took. An API server that is busy or out of reach is asked again."""
        began = said = time.monotonic()
        self.awaited = what
        while not await _answered(true):
            now = time.monotonic()
            if now - said > 20:
                said = now
                self.note(f"waiting: {what}", **self.progress, **self.so_far())
            await asyncio.sleep(every)
        self.awaited = ""
        return round(time.monotonic() - began, 1)

    def note(self, text: str, **values: Any) -> None:
        """Say on standard error how it goes."""
        print(f"{time.strftime('%H:%M:%S')} load {gauges.load()}: {text} {values or ''}", file=sys.stderr)


async def _answered(true: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await true()
    except (errors.Unreachable, errors.TooMany, errors.ServerError):
        return False
