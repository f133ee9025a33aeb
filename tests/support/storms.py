"""Random histories of a fleet on a real API server: what people, sites and bad luck do, one step after the other.

A history is a list of steps drawn from a seed. `Storm` carries them out against a fleet of simulated sites whose
operator sees the API server through `support.weather` and is killed and started again; `Record` writes down every
version of every order and rollout, past the weather. What must hold of a record, and of the fleet once all is quiet,
is in `support.aftermath`.
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Object
from edgefleet.kube.watching import Watcher
from support.fake_agent import Plan
from support.hub import Fleet, Operator, digest
from support.weather import Weather

MODEL: Final = "digits"
SITES: Final = ("a", "b", "c", "d", "e", "f")
OLD: Final = 3
"""One of so many sites has the old board: what fails there fails on the whole board."""
QUARANTINE: Final = {
    "EDGEFLEET_QUARANTINE_FAILURES": "2",
    "EDGEFLEET_QUARANTINE_MAX_SHARE": "20%",
    "EDGEFLEET_QUARANTINE_RELEASE_AFTER": "1h",
}
"""Sites lose the operator's trust soon, and get it back by a person only."""
HEARTBEAT: Final = {"interval": "4s", "offlineAfter": "20s"}
"""Long against what the weather holds back, so that a site that beats is never taken for one that does not."""
REAL_HEARTBEAT: Final = {"interval": "5s", "offlineAfter": "40s"}
"""The same for real agents, who wait ever longer after failures."""
POLICIES: Final[tuple[dict[str, Any], ...]] = (
    {"waves": [{"name": "first", "limit": 1, "soak": "1s"}, {"name": "rest", "maxConcurrency": 2}]},
    {"waves": [{"name": "ring", "siteSelector": {"matchLabels": {"ring": "0"}}, "minSuccess": "100%"}]},
    {"waves": [{"name": "all", "maxFailures": 1, "maxConcurrency": 1}], "failureStrategy": "Pause"},
    {"waves": [{"name": "all", "maxFailures": 1}], "cohorts": {"by": ["board"], "minSites": 2}},
    {
        "waves": [{"name": "first", "limit": 2}, {"name": "rest", "maxFailures": "50%"}],
        "cohorts": {"by": ["ring", "board"], "minSites": 2, "maxFailures": "40%"},
    },
    {},
)


@dataclass(frozen=True)
class Step:
    """One thing that happens; `number` chooses among bundles, policies and the like."""

    what: str
    site: str = ""
    number: int = 0


KINDS: Final = (
    *("apply",) * 6, *("wait",) * 5, *("kill",) * 3, *("silence",) * 2, "policy", "pause", "cordon", "relabel",
    "abort", "retry", "finish", "place", *("window",) * 2, "release",
)  # fmt: skip
REAL_KINDS: Final = (*KINDS, *("power",) * 3)
"""Sites with agents of their own have power cuts besides."""


def history(
    seed: int, length: int, bundles: int, sites: Sequence[str] = SITES, what: Sequence[str] = KINDS
) -> list[Step]:
    """Steps drawn from a seed. The first is an `apply`."""
    dice = random.Random(seed)
    steps = [Step("apply", number=0)]
    for _ in range(length - 1):
        chosen = dice.choice(what)
        steps.append(Step(chosen, dice.choice(sites), dice.randrange(bundles)))
    return steps


def labels(short: str, sites: Sequence[str] = SITES) -> dict[str, str]:
    """What a site is to rings and cohorts."""
    place = sites.index(short)
    return {
        "site": short,
        "ring": str(place % 2),
        "board": "new" if place % OLD else "old",
    }


def plans(
    seed: int, bundles: list[str], sites: Sequence[str] = SITES, reasons: Sequence[str] = ("GoldenDisagrees",)
) -> dict[str, Plan]:
    """Which bundles fail or are blocked at which site, alone or with all of its board. The first is good everywhere."""
    dice = random.Random(f"plans {seed}")
    hard = {digest(item) for item in bundles[1:] if dice.random() < 0.35}
    found = {}
    for site in sites:
        old = labels(site, sites)["board"] == "old"
        bad = [digest(item) for item in bundles[1:] if dice.random() < 0.2 or (old and digest(item) in hard)]
        stuck = [digest(item) for item in bundles[1:] if dice.random() < 0.1]
        found[site] = Plan(
            fails={item: dice.choice(reasons) for item in bad},
            blocked=dict.fromkeys(stuck, "StoreUnreachable"),
            obeys_windows=True,
        )
    return found


def away() -> list[Object]:
    """Windows that open in six hours."""
    opens = datetime.now(UTC) + timedelta(hours=6)
    return [{"schedule": f"{opens.minute} {opens.hour} * * *", "duration": "1h"}]


@dataclass
class Record:
    """Every version of every order and rollout of one model, and of every site, as the API server told an administrator."""

    seen: dict[int, tuple[str, str, Object]] = field(default_factory=dict)
    """By resource version: kind, event, object."""

    @contextlib.asynccontextmanager
    async def kept(self, fleet: Fleet) -> AsyncIterator["Record"]:
        """Write down until the end of the block."""
        api, namespace = fleet.api, fleet.namespace
        order = names.order_name(namespace, MODEL)
        watchers = (
            Watcher(api, kinds.EDGE_DEPLOYMENT, self._sink("order", order)),
            Watcher(api, kinds.EDGE_ROLLOUT, self._sink("rollout", ""), namespace=namespace),
            Watcher(api, kinds.EDGE_SITE, self._sink("site", ""), labels=f"test={fleet.id}"),
        )
        tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        try:
            for watcher in watchers:
                await watcher.synced.wait()
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _sink(self, kind: str, name: str) -> Any:
        def told(event: str, item: Object) -> None:
            if item and name in ("", item["metadata"]["name"]) and "resourceVersion" in item["metadata"]:
                self.seen[int(item["metadata"]["resourceVersion"])] = (kind, event, item)

        return told

    def in_order(self) -> list[tuple[str, str, Object]]:
        """Everything that happened, one after the other."""
        return [self.seen[version] for version in sorted(self.seen)]


@dataclass
class Storm:
    """Carries a history out."""

    fleet: Fleet
    operator: Operator
    weather: Weather
    plan: Path
    """Of `support.failpoints`, which starts the operator again whenever it was killed."""
    bundles: list[str]
    hurry: random.Random
    """Chooses pauses. What happens is in the history; only when it meets the operator is left to chance."""
    canary: dict[str, Any] | None = None
    """Of every version of the model; None: none."""
    others: Sequence[Weather] = ()
    """Other weathers, which come and go with the operator's."""
    power: Callable[[int], None] | None = None
    """Cuts the power of some sites."""
    patience: float = 1.0
    """How much longer pauses are than those of sites that need no time for anything."""
    policy: dict[str, Any] = field(default_factory=dict)
    placement: dict[str, Any] | None = None
    silenced: set[str] = field(default_factory=set)
    kills: int = 0

    async def do(self, step: Step) -> None:
        """One step."""
        await getattr(self, f"_{step.what}")(step)
        await asyncio.sleep(self.hurry.uniform(0.0, 0.8))

    def blow(self, *, calm: bool) -> None:
        """Let the weather be good or bad."""
        for each in (self.weather, *self.others):
            each.calm = calm

    async def quiet(self) -> None:
        """Good weather, everybody back and nobody holding anything up; the operator runs."""
        self.blow(calm=True)
        for short, agent in self.fleet.agents.items():
            await agent.wake()
            await self._site(short, {"spec": {"cordoned": False, "windows": None}})
        if await self._there():
            await self._model({"spec": {"paused": False}})
        await self.operator.ready(seconds=120)

    # -- the steps ------------------------------------------------------------------------------------------
    async def _apply(self, step: Step) -> None:
        spec: dict[str, Any] = {"rollout": self.policy} | (
            {"placement": self.placement} if self.placement else {}
        )
        spec |= {"canary": self.canary} if self.canary else {}
        await self.fleet.apply(MODEL, self.bundles[step.number], **spec)

    async def _wait(self, _step: Step) -> None:
        await asyncio.sleep(self.hurry.uniform(0.5, 3.0) * self.patience)

    async def _kill(self, _step: Step) -> None:
        with contextlib.suppress(ProcessLookupError):  # the next life is not begun yet
            os.kill(int((self.plan / "life").read_text()), signal.SIGKILL)
            self.kills += 1

    async def _silence(self, step: Step) -> None:
        agent = self.fleet.agents[step.site]
        if step.site in self.silenced:
            self.silenced.discard(step.site)
            await agent.wake()
        else:
            self.silenced.add(step.site)
            await agent.rest()

    async def _policy(self, step: Step) -> None:
        self.policy = POLICIES[step.number % len(POLICIES)]
        kept = {key: None for policy in POLICIES for key in policy if key not in self.policy}
        await self._model({"spec": {"rollout": {**kept, **self.policy}}})

    async def _pause(self, step: Step) -> None:
        await self._model({"spec": {"paused": bool(step.number % 2)}})

    async def _cordon(self, step: Step) -> None:
        await self._site(step.site, {"spec": {"cordoned": bool(step.number % 2)}})

    async def _relabel(self, step: Step) -> None:
        ring, board = str(step.number % 2), ("old", "new")[step.number % 2]
        change = {"ring": ring} if step.number < 3 else {"board": board}
        await self._site(step.site, {"metadata": {"labels": change}})

    async def _window(self, step: Step) -> None:
        """Closed for installs, closed for downloads, or gone."""
        found = {0: {"update": away()}, 1: {"download": away()}}.get(step.number)
        await self._site(step.site, {"spec": {"windows": None}})
        await self._site(step.site, {"spec": {"windows": found}})

    async def _release(self, step: Step) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await self._site(step.site, {"metadata": {"annotations": {names.RELEASE: now}}})

    async def _power(self, step: Step) -> None:
        if self.power is not None:
            self.power(step.number)

    async def _retry(self, step: Step) -> None:
        await self._model({"metadata": {"annotations": {names.RETRY: f"again-{step.number}"}}})

    async def _abort(self, _step: Step) -> None:
        await self._verb({"desired": "Aborted"})

    async def _finish(self, _step: Step) -> None:
        await self._verb({"finish": True})

    async def _place(self, step: Step) -> None:
        """One site more or less; never more than may leave without consent."""
        labels = {"matchLabels": {"test": self.fleet.id}}
        out = {"matchExpressions": [{"key": "site", "operator": "NotIn", "values": [step.site]}]}
        self.placement = {"siteSelector": {**labels, **(out if step.number % 2 else {})}}
        bare = {} if step.number % 2 else {"matchExpressions": None}
        await self._model(
            {"spec": {"placement": {"siteSelector": {**self.placement["siteSelector"], **bare}}}}
        )

    async def _model(self, change: Object) -> None:
        await self.fleet.api.merge_patch(kinds.EDGE_MODEL, self.fleet.namespace, MODEL, change)

    async def _site(self, short: str, change: Object) -> None:
        await self.fleet.api.merge_patch(kinds.EDGE_SITE, None, self.fleet.name(short), change)

    async def _verb(self, verb: Object) -> None:
        rollouts = await self.fleet.rollouts(MODEL)
        if rollouts:
            name = rollouts[-1]["metadata"]["name"]
            with contextlib.suppress(errors.Invalid):  # what was aborted stays so
                await self.fleet.api.merge_patch(
                    kinds.EDGE_ROLLOUT, self.fleet.namespace, name, {"spec": verb}
                )

    async def _there(self) -> bool:
        with contextlib.suppress(errors.NotFound):
            return bool(await self.fleet.model(MODEL))
        return False
