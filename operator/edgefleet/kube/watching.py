"""Follow a collection for ever: list in pages, watch, list again when the server has forgotten where we were.

No bookmarks: on a slow link they cost ten times the idle watch itself. An idle watch may so outlive its
resource version; it then costs one more list.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from edgefleet.kube import errors
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from edgefleet.kube.transport import OPENED

log = logging.getLogger(__name__)

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
SYNCED: Final = "SYNCED"
"""The callback has now seen every object of a list; the object is empty."""

GAP: Final = 3.0
"""Seconds without the server that are no absence."""
_SHORT: Final = 0.5

Sink = Callable[[str, Object], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long watches live and how soon a broken one is tried again, all in seconds."""

    shortest: float = 240.0
    longest: float = 480.0
    """A watch ends after a time between the two, so that clients spread over restarted servers."""
    first_pause: float = 0.5
    longest_pause: float = 30.0
    spread: float = 0.0
    """Longest wait before a new list after an absence, so that a fleet does not list at once; see `spread`."""


def spread(absence: float, most: float) -> float:
    """Seconds to wait after an absence of so many seconds, drawn from a tenth of it: everybody was away together.

    Who was gone for a moment goes on at once; a fleet that was cut off for five minutes comes back over thirty seconds.
    """
    return random.uniform(0.0, min(most, absence / 10))  # noqa: S311  jitter is no secret


class Watcher:
    """Calls `sink(type, object)` for everything in a collection, until cancelled.

    After a list, objects that have gone are reported as DELETED with only their metadata.namespace, name and
    (when known) uid. The sink must not block; an exception from it is logged and ends nothing.
    """

    def __init__(
        self,
        api: Api,
        kind: Kind,
        sink: Sink,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        pace: Pace | None = None,
    ) -> None:
        self.synced = asyncio.Event()
        """Set after the first complete list."""
        self.broken: str = ""
        """What the latest list or watch ended with; empty while all is well."""
        self._api = api
        self._kind = kind
        self._sink = sink
        self._where: dict[str, Any] = {"namespace": namespace, "labels": labels, "fields": fields}
        self._pace = pace or Pace()
        self._known: dict[tuple[str, str], str] = {}
        self._version = ""
        self._again = asyncio.Event()
        self._lost: float | None = None
        """When, by the loop's clock, the server was first not reached; None: it is."""
        self._returned, self._absence = float("-inf"), 0.0
        """When the server was reached again, and for how long it had not been."""
        self._hearing_since: datetime | None = None

    @property
    def hearing_since(self) -> datetime | None:
        """Since when news come without a gap worth speaking of, by the wall clock; None: none come now."""
        return None if self._deaf() else self._hearing_since

    def _deaf(self) -> bool:
        lost = self._lost
        return lost is not None and asyncio.get_running_loop().time() - lost > GAP

    def _reached(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._hearing_since is None or self._deaf():
            self._hearing_since = datetime.now(UTC)
        if self._lost is not None:
            self._returned, self._absence = now, now - self._lost
        self._lost = None

    def _was_away(self) -> float:
        """How long an absence lasted that goes on or has just ended, in seconds."""
        now = asyncio.get_running_loop().time()
        if self._lost is not None:
            return now - self._lost
        return self._absence if now - self._returned < GAP else 0.0

    @property
    def listing(self) -> bool:
        """Whether a list is under way or due, for which one may have to wait: what is known is old until then."""
        return not self._version

    def relist(self) -> None:
        """Drop the watch and list now: there is evidence that it is dead."""
        self._again.set()

    async def run(self) -> None:
        """Never returns, never raises but CancelledError."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                if not self._version:
                    self._again.clear()  # asked for before now, this list will do
                    await self._list()
                await self._watch_or_relist()
                failures = 0
                if loop.time() - began < _SHORT:  # a server or proxy that hangs up at once
                    await asyncio.sleep(_SHORT)
            except errors.Gone:
                self._version = ""
                # many clients hear this at once, when a server has been restarted
                pause = random.uniform(0.0, self._pace.first_pause)  # noqa: S311  jitter
                await asyncio.sleep(max(pause, spread(self._was_away(), self._pace.spread)))
            except errors.ApiError as error:
                failures = 1 if loop.time() - began > self._pace.longest_pause else failures + 1
                self.broken = error.message
                self._lost = loop.time() if self._lost is None else self._lost
                if not isinstance(error, errors.Unreachable):
                    self._version = ""
                await self._pause(failures, error)

    async def _list(self) -> None:
        seen: dict[tuple[str, str], str] = {}
        version = ""
        async for items, version in self._api.pages(self._kind, **self._where):  # noqa: B007  the last one counts
            for item in items:
                key, uid = _identity(item)
                seen[key] = uid
                self._tell(MODIFIED if self._known.get(key) == uid else ADDED, item)
        for key, uid in self._known.items():
            if key not in seen:
                stub = {"namespace": key[0] or None, "name": key[1], "uid": uid}
                self._tell(DELETED, {"metadata": {k: v for k, v in stub.items() if v}})
        self._known = seen
        self._reached()
        self._version = version
        self.broken = ""
        self._tell(SYNCED, {})
        self.synced.set()

    async def _watch_or_relist(self) -> None:
        """Watch once; or, when asked to relist meanwhile, forget the version."""
        watch = asyncio.ensure_future(self._watch())
        again = asyncio.ensure_future(self._again.wait())
        try:
            await asyncio.wait((watch, again), return_when=asyncio.FIRST_COMPLETED)
            if self._again.is_set():
                self._again.clear()
                self._version = ""
            else:
                await watch
        finally:
            for task in (watch, again):
                task.cancel()
            await asyncio.gather(watch, again, return_exceptions=True)

    async def _watch(self) -> None:
        seconds = random.uniform(self._pace.shortest, self._pace.longest)  # noqa: S311  jitter is no secret
        async for event, item in self._api.watch(
            self._kind, version=self._version, seconds=seconds, **self._where
        ):
            self.broken = ""
            self._reached()
            if event == OPENED:
                continue
            key, uid = _identity(item)
            if event == DELETED:
                self._known.pop(key, None)
            else:
                self._known[key] = uid
            self._tell(event, item)
            self._version = item["metadata"]["resourceVersion"]

    def _tell(self, event: str, item: Object) -> None:
        try:
            self._sink(event, item)
        except Exception:  # one odd object must not end the loop that brings all others
            log.exception("Sink failed", extra={"kind": self._kind.name, "event": event})

    async def _pause(self, failures: int, error: errors.ApiError) -> None:
        pause = min(self._pace.longest_pause, self._pace.first_pause * 2 ** min(failures - 1, 10))
        pause = max(pause * random.uniform(0.5, 1.0), error.retry_after or 0.0)  # noqa: S311  jitter
        log.warning(
            "Watch interrupted",
            extra={"kind": self._kind.name, "error": error.message, "pause": round(pause, 2)},
        )
        await asyncio.sleep(pause)


def _identity(item: Object) -> tuple[tuple[str, str], str]:
    meta = item["metadata"]
    return (str(meta.get("namespace") or ""), str(meta["name"])), str(meta.get("uid") or "")
