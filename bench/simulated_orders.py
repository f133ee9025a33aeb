"""What a simulated site makes of its orders: the stages of a real agent, each reported when it begins."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from edgefleet.core import conditions, parse, units
from edgefleet.core.order import (
    CanaryProgress,
    Download,
    Mode,
    Order,
    OrderIdentity,
    Report,
    SelfTest,
    Stage,
    State,
    parse_order,
    to_wire,
)
from edgefleet.core.order import Traffic as Served
from edgefleet.core.seen import Meta
from edgefleet.kube import apply, kinds
from edgefleet.kube.client import Object

from bench.lines import Lines, LinkError, RefusedError

RETRY: Final = 2.0
LONGEST_RETRY: Final = 30.0

jitter = random.Random(1)


@dataclass(frozen=True, slots=True)
class Nature:
    """How a simulated site is, and whom it tells."""

    stage: float = 1.0
    """Mean seconds in each stage of an order."""
    ordered: Callable[[str], None] = lambda _site: None
    """Called when an order arrives that was not known."""
    served: Callable[[str], None] = lambda _site: None
    """Called when an order has been carried out and reported."""
    beat: Callable[[float], None] = lambda _seconds: None
    """Called with the time a beat took."""
    trouble: Callable[[str], None] = lambda _what: None


@dataclass(slots=True)
class _Held:
    """An order, and what was reported on it."""

    live: Object
    report: Report = field(default_factory=Report)
    revision: str = ""
    """That serves."""
    bundle: str = ""
    previous: str = ""
    task: "asyncio.Task[None] | None" = None


class Orders:
    """The orders of one site, and what becomes of them."""

    def __init__(self, site: str, namespace: str, lines: Lines, nature: Nature) -> None:
        self._site = site
        self._namespace = namespace
        self._lines = lines
        self._nature = nature
        self._held: dict[str, _Held] = {}

    def metas(self) -> Iterable[Meta]:
        """What is held, for the fingerprint."""
        return (parse.meta(held.live) for held in self._held.values())

    def keep(self, listed: set[str]) -> None:
        """Forget what the hub has no more."""
        for gone in self._held.keys() - listed:
            del self._held[gone]

    def drop(self, name: str) -> None:
        """The same of one."""
        self._held.pop(name, None)

    def stop(self) -> None:
        """End all that is under way."""
        for held in self._held.values():
            if held.task is not None:
                held.task.cancel()

    def take(self, item: Object) -> None:
        """Hear of an order, or of a report of our own that comes back."""
        name, meta = item["metadata"]["name"], item["metadata"]
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = _Held(item)
        elif held.live["metadata"]["uid"] == meta["uid"] and _older(meta, held.live["metadata"]):
            return
        held.live = item
        identity = OrderIdentity(uid=meta["uid"], generation=meta["generation"])
        if held.report.order == identity:
            return
        self._nature.ordered(self._site)
        if held.task is not None:
            held.task.cancel()
        held.task = asyncio.create_task(self._obey(held, parse_order(item["spec"]), identity))

    # -- what becomes of an order ----------------------------------------------------------------------
    async def _obey(self, held: _Held, order: Order, identity: OrderIdentity) -> None:
        held.report = msgspec.structs.replace(
            held.report, order=identity, observed_generation=identity.generation
        )
        if order.state is not State.RUN:
            await self._say(held, Stage.REMOVED, order.state.value)
        elif held.revision == order.revision:
            await self._say(held, Stage.SERVING, "Serving")
        else:
            await self._install(held, order)
        self._nature.served(self._site)

    async def _install(self, held: _Held, order: Order) -> None:
        """The stages of a real agent, each reported when it begins."""
        if not held.revision:
            await self._say(held, Stage.PENDING, "Restoring", message="the Service is missing")
        got = Download(done=15, total=15)
        await self._say(held, Stage.DOWNLOADING, "Downloading", download=None, self_test=None, message="")
        await self._say(held, Stage.STAGED, "Verified", download=got, variant="int8", wait=True)
        await self._say(held, Stage.SELF_TESTING, "SelfTesting")
        tested = SelfTest(
            revision=order.revision, passed=True, agreement=1.0, p50_ms=0.4, p99_ms=0.9, peak_mib=41.0
        )
        await self._say(held, Stage.STAGED, "Starting", self_test=tested, wait=True)
        if order.mode is Mode.CANARY and held.revision:
            await self._canary(held, order)
        previous = {"previous_revision": held.revision} if held.revision else {}
        await self._say(held, Stage.STAGED, "Promoting", canary=None, message="", wait=True, **previous)
        held.previous, held.revision = held.revision, order.revision
        held.bundle = order.bundle.rpartition("@")[2]
        serving = {
            "active_revision": held.revision,
            "active_bundle": held.bundle,
            "active_version": held.report.active_version + 1,
            "traffic": Served(requests=1000, p50_ms=0.4, p99_ms=0.9),
        }
        await self._say(held, Stage.SERVING, "CleaningUp", wait=True, **serving)
        await self._say(held, Stage.SERVING, "Serving")

    async def _canary(self, held: _Held, order: Order) -> None:
        steps = order.canary.steps
        for index, step in enumerate(steps):
            at = CanaryProgress(step=index, steps=len(steps), shadow=step.shadow, weight=step.weight)
            text = "200 requests, 0 bad"
            seen = msgspec.structs.replace(at, requests=200, agreement=1.0, message=text)
            await self._say(held, Stage.CANARY, "Starting", canary=at, message="")
            await self._say(held, Stage.CANARY, "Step")
            await self._say(held, Stage.CANARY, "StepPassed", canary=seen, message=text, wait=True)

    async def _say(
        self, held: _Held, stage: Stage, reason: str, *, wait: bool = False, **fields: Any
    ) -> None:
        """Report a stage, until it has arrived; `wait`: after the time the stage before it took."""
        if wait:
            await asyncio.sleep(self._nature.stage * jitter.uniform(0.5, 1.5))
        message = fields.get("message", held.report.message)
        if stage is Stage.SERVING and reason == "Serving":
            states = conditions.ready(reason, message)
        elif stage is Stage.REMOVED:
            states = dict.fromkeys(conditions.stalled("", ""), (conditions.FALSE, reason, message))
        else:
            states = conditions.reconciling(reason, message)
        now = datetime.now(UTC)
        generation = held.report.observed_generation
        held.report = msgspec.structs.replace(
            held.report,
            stage=stage,
            reason=reason,
            conditions=conditions.build(states, held.report.conditions, generation, now),
            reported_at=units.timestamp(now),
            **fields,
        )
        await self._send(held)

    async def _send(self, held: _Held) -> None:
        pause = RETRY
        while True:
            patch = apply.difference(held.live.get("status") or {}, to_wire(held.report), prune=True)
            if not patch:
                return
            name = held.live["metadata"]["name"]
            path = kinds.EDGE_DEPLOYMENT.path(self._namespace, name, "status")
            try:
                answer = await self._lines.call(
                    "patch edgedeployments", "PATCH", path, versioned(held.live, patch)
                )
            except RefusedError as error:
                if error.status == 404:
                    return
                if error.status == 409:
                    with contextlib.suppress(LinkError):
                        self.take(await self._read(name))
                    continue
                self._nature.trouble(f"report {error}"[:60])
            except LinkError as error:
                self._nature.trouble(f"report {error}"[:60])
            else:
                if not _older(answer["metadata"], held.live["metadata"]):
                    held.live = answer
                return
            pause = min(LONGEST_RETRY, pause * 2)
            await asyncio.sleep(pause * jitter.uniform(0.7, 1.0))

    async def _read(self, name: str) -> Object:
        path = kinds.EDGE_DEPLOYMENT.path(self._namespace, name)
        return await self._lines.call("get edgedeployments", "GET", path)


def versioned(live: Object, status: Object) -> Object:
    """The body of a patch of a status, refused when the object has changed since."""
    return {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "status": status}


def _older(meta: Object, than: Object) -> bool:
    return int(meta["resourceVersion"]) < int(than["resourceVersion"])
