"""What the statuses of a whole rollout cost in writes: the hub's own decisions, pass by pass, through its pen."""

import asyncio
import copy
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgefleet.handlers.pen import FIGURES_EVERY, Pen
from edgefleet.kube import kinds
from edgefleet.kube.kinds import Kind
from support.fleet import World, world
from support.hubs import bundle

SITES = int(os.environ.get("SITES", "60"))
WAVES = [{"name": "few", "limit": "10%", "soak": "10s"}, {"name": "rest", "maxConcurrency": 20}]


class Paper:
    """Takes what the pen writes, as an API server would, and counts it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.writes: Counter[str] = Counter()

    def live(self, name: str) -> dict[str, Any]:
        meta = {"name": name, "uid": name, "resourceVersion": "1"}
        return self.objects.setdefault(name, {"metadata": meta, "status": {}})

    async def merge_patch(
        self, kind: Kind, _namespace: str | None, name: str, body: Mapping[str, Any], *, status: bool
    ) -> dict[str, Any]:
        assert status
        self.writes[kind.name] += 1
        _merge(self.live(name)["status"], body["status"])
        return self.live(name)


def _merge(into: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


async def rolled(flock: World) -> tuple[Paper, int, int]:
    """Roll bundle 2 out, one pass a second; returns what was written, and passes and seconds it took."""
    paper, passes = Paper(), 0
    began = flock.hub.now

    def clock() -> float:
        return (flock.hub.now - began).total_seconds()

    pen = Pen(paper, clock)  # type: ignore[arg-type]
    flock.hub.edit(bundle=bundle(2))
    for index, site in enumerate(flock.sites.values()):
        site.steps = 2 + index % 5  # they are not all as quick
    while passes < 3 or flock.hub.condition("Ready")[0] != "True":
        decision = flock.hub.look()
        assert decision.status is not None
        for patch in decision.patch_rollouts:
            if patch.status is not None:
                await pen.write(kinds.EDGE_ROLLOUT, copy.deepcopy(paper.live(patch.name)), patch.status)
        await pen.write(kinds.EDGE_MODEL, copy.deepcopy(paper.live("digits")), decision.status)
        passes += 1
        assert passes < 2000, flock.hub.message()
        flock.hub.tick(1)
        for site in flock.sites.values():
            site.sync()
            site.work()
            site.sync()
    return paper, passes, int((flock.hub.now - began).total_seconds())


def test_a_rollout_writes_its_statuses_every_few_seconds_and_not_at_every_pass() -> None:
    names = {f"s{number:03}": {} for number in range(SITES)}
    flock = world(names, rollout={"waves": WAVES})
    paper, passes, seconds = asyncio.run(rolled(flock))
    print(f"{SITES} sites, {passes} passes in {seconds} s: {dict(paper.writes)}")
    # what counts only, every five seconds; and what cannot wait: outcome, waves that begin, soak and end
    assert paper.writes[kinds.EDGE_MODEL.name] <= seconds / FIGURES_EVERY + 10
