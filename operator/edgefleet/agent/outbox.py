"""Reports on their way to the hub: the latest of each model, sent when it is worth it and until it has arrived."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from edgefleet.agent import reports
from edgefleet.agent.orders import Orders
from edgefleet.core import units
from edgefleet.core.order import Report, to_wire
from edgefleet.kube import apply, errors, kinds
from edgefleet.kube.client import Api, Object

log = logging.getLogger(__name__)

_FIRST_RETRY: Final = 2.0
_LONGEST_RETRY: Final = 30.0


class Outbox:
    """Holds one report a model; an older one that was not sent is not worth sending any more."""

    def __init__(
        self, orders: Orders, namespace: str, ring: Callable[[str], None], heard: Callable[[Api], None]
    ) -> None:
        """`ring(name)` asks for a pass, `heard(api)` is told that the hub answered."""
        self._orders = orders
        self._namespace = namespace
        self._ring = ring
        self._heard = heard
        self._reports: dict[str, Report] = {}
        self._sent: dict[str, tuple[str, reports.Sent]] = {}
        """With the uid of the order the report was about."""
        self._now = asyncio.Event()

    def put(self, name: str, report: Report) -> None:
        """Have a report sent when it is worth it."""
        self._reports[name] = report
        if self._due(name, report):
            self._now.set()

    def wake(self) -> None:
        """Try at once."""
        self._now.set()

    async def run(self, api: Api) -> None:
        """Send for ever. Raises JournalError."""
        pause = _FIRST_RETRY
        while True:
            self._now.clear()
            due = [(name, report) for name, report in self._reports.items() if self._due(name, report)]
            sent = [await self._send(api, name, report) for name, report in due]
            if all(sent):
                pause = _FIRST_RETRY
                await self._now.wait()
            else:
                pause = min(_LONGEST_RETRY, pause * 2)
                await asyncio.sleep(pause * random.uniform(0.7, 1.0))  # noqa: S311  jitter is no secret

    def _due(self, name: str, report: Report) -> bool:
        live = self._orders.live.get(name)
        if live is None:
            return False
        uid, sent = self._sent.get(name, ("", None))
        return reports.due(report, sent if uid == live["metadata"]["uid"] else None, time.monotonic())

    async def _send(self, api: Api, name: str, report: Report) -> bool:
        """Send one report; False when it must be tried again."""
        live = self._orders.live.get(name)
        if live is None:
            return True
        stamped = msgspec.structs.replace(report, reported_at=units.timestamp(datetime.now(UTC)))
        try:
            answer = await apply.patch_status(api, kinds.EDGE_DEPLOYMENT, live, to_wire(stamped))
        except errors.NotFound:
            return True  # gone meanwhile; the watch says so, too
        except errors.Conflict:
            return await self._reread(api, name, live)
        except errors.ApiError as error:
            log.warning("Report not sent", extra={"order": name, "error": error.message})
            return False
        self._sent[name] = live["metadata"]["uid"], reports.sent(report, time.monotonic())
        if answer is not None and self._orders.live.get(name) is live:
            self._orders.live[name] = answer
        self._heard(api)
        return True

    async def _reread(self, api: Api, name: str, held: Object) -> bool:
        """Fetch an order whose copy here is stale, so that the next report is about what it says now."""
        try:
            fresh = await api.get(kinds.EDGE_DEPLOYMENT, self._namespace, name)
        except errors.ApiError:
            return False
        await self._orders.take_again(name, fresh, held)
        self._ring(name)
        self._now.set()
        return True
