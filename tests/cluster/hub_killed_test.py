"""The operator killed right before and right after its writes: the same end state as in a quiet life.

The kinds of write are found by running the story once undisturbed. In the ordinary run a sample of the points,
drawn with a fixed seed, is killed at; with `-m soak` every one is.
"""

import contextlib
import difflib
import json
import random
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from edgefleet.core import names
from edgefleet.handlers.pen import FIGURES_EVERY
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Object
from support import hub, hub_chart
from support.cluster import admin, eventually
from support.fake_agent import Plan
from support.hub import Fleet, Operator, Shelf, digest

pytestmark = pytest.mark.cluster

SAMPLE: Final = 16
SEED: Final = 20260101
TIME_BOX: Final = 90.0
"""Seconds for both lives together in the ordinary run; points that do not fit are left out, and named."""
_CHANGING: Final = {
    "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "time", "offeredAt",
    "lastTransitionTime", "lastSeen", "startedAt", "completedAt", "soakStartedAt", "observedGeneration",
    "reportedAt", "message", "order", names.FINGERPRINT, names.JOIN_ACCOUNT,
}  # fmt: skip
"""What differs from life to life. `message` names keys and times."""


_FIGURES: Final = ("models", "sites", "counts", "healthy", "blocked", "unreachable")


@dataclass
class Life:
    """The operator, started again whenever it was killed."""

    plan: Path

    @property
    def deaths(self) -> int:
        return len(_lines(self.plan / "deaths"))

    @property
    def points_left(self) -> list[str]:
        return _lines(self.plan / "points")


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def story(fleet: Fleet, bundles: list[str]) -> dict[str, Any]:
    """Joining, a first model, one that fails and goes back, one that is good, deletion; returns the end states."""
    first, bad, last = bundles
    lab, _shop = await fleet.joined("lab", "shop")
    waves: Object = {"waves": [{"name": "lab", "siteSelector": {"matchLabels": {"site": "lab"}}}]}
    lab.plan = Plan(fails={digest(bad): "SelfTestFailed"})
    states: dict[str, Any] = {}
    for name, bundle, expected in (("first", first, "True"), ("bad", bad, "False"), ("last", last, "True")):
        await fleet.apply("digits", bundle, rollout=waves)
        if expected == "True":
            await fleet.ready("digits", seconds=60)
        else:
            await fleet.until("digits", "Stalled", "True", "RolledBack", seconds=60)
            await fleet.offered("lab", "digits", first)
        states[name] = await settled(fleet, figures=name == "last")
    await fleet.api.delete(kinds.EDGE_MODEL, fleet.namespace, "digits", uid=None)

    async def all_gone() -> bool:
        left = [await fleet.order(short, "digits") for short in ("lab", "shop")]
        return not any(left) and not await fleet.api.list(kinds.EDGE_MODEL, fleet.namespace)

    await eventually(all_gone, "model and orders are gone", seconds=60)
    return states


async def settled(fleet: Fleet, *, figures: bool) -> Any:
    """What there is once nothing changes any more. Figures may follow some seconds later, so they are optional."""
    every = FIGURES_EVERY + 0.5 if figures else 1.0
    before: Any = None

    async def still() -> Any:
        nonlocal before
        now = await picture(fleet, () if figures else _FIGURES)
        same, before = now == before, now
        return now if same else None

    return await eventually(still, "nothing changes any more", seconds=60, every=every)


async def picture(fleet: Fleet, without: Collection[str]) -> Any:
    """Everything the operator writes, without what differs from life to life."""
    api, seen = fleet.api, {}
    seen["models"] = await api.list(kinds.EDGE_MODEL, fleet.namespace)
    seen["rollouts"] = await api.list(kinds.EDGE_ROLLOUT, fleet.namespace)
    for short, agent in fleet.agents.items():
        space = agent.namespace
        seen[f"{short} site"] = [await api.get(kinds.EDGE_SITE, None, agent.site)]
        seen[f"{short} orders"] = await api.list(kinds.EDGE_DEPLOYMENT, space)
        seen[f"{short} agent"] = [await api.get(kinds.EDGE_AGENT, space, names.AGENT)]
        seen[f"{short} binding"] = [await api.get(kinds.ROLE_BINDING, space, "edgefleet-site")]
        seen[f"{short} place"] = [await api.get(kinds.NAMESPACE, None, space)]
        if without:
            continue  # a token dies some time after the first beat
        with contextlib.suppress(errors.NotFound):
            account = await api.get(kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE, agent.site)
            seen[f"{short} token"] = [account]
    text = json.dumps(_lasting(seen, without), sort_keys=True).replace(fleet.id, "ID")
    for agent in fleet.agents.values():
        text = text.replace(agent.key.sha256, "KEY").replace(agent.key.sha256[:16], "KEY")
    return json.loads(text)


def _lasting(value: Any, without: Collection[str]) -> Any:
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if key not in _CHANGING and key not in without}
        return {key: _lasting(inner, without) for key, inner in kept.items()}
    return [_lasting(inner, without) for inner in value] if isinstance(value, list) else value


async def lives(
    api_server: Path, shelf: Shelf, folder: Path, *, sample: int | None, box: float | None
) -> tuple[int, list[str]]:
    """A quiet life and a troubled one; both must end alike. Returns deaths and points that never came up."""
    began = time.monotonic()
    kubeconfig = await hub_chart.install(api_server, folder)
    bundles = [await shelf.bundle() for _ in range(3)]
    ends: list[dict[str, Any]] = []
    deaths, left = 0, []
    for name in ("quiet", "troubled"):
        plan = folder / name
        plan.mkdir()
        if name == "troubled":
            points = _points((folder / "quiet" / "seen").read_text().splitlines(), sample)
            if box is not None and time.monotonic() - began > box / 2:  # a slow machine: fewer, never none
                points = points[: max(4, len(points) // 2)]
            (plan / "points").write_text("\n".join(points))
        operator = Operator(
            kubeconfig, shelf, folder / f"{name}.log", launcher=("-m", "support.failpoints", str(plan))
        )
        async with admin(api_server) as api, Fleet(api) as fleet, hub.at_work(operator):
            ends.append(await story(fleet, bundles))
        life = Life(plan)
        deaths, left = life.deaths, life.points_left
    for step, quiet in ends[0].items():
        assert ends[1][step] == quiet, f"{step} ended differently:\n{_differing(quiet, ends[1][step])}"
    return deaths, left


def _differing(quiet: Any, troubled: Any) -> str:
    texts = [json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (quiet, troubled)]
    return "\n".join(difflib.unified_diff(*texts, "quiet", "troubled", lineterm=""))


def _points(kinds_seen: list[str], sample: int | None) -> list[str]:
    points = [f"{when} {kind}" for kind in kinds_seen for when in ("before", "after")]
    if sample is None or sample >= len(points):
        return points
    return random.Random(SEED).sample(points, sample)


@pytest.mark.timeout(240)
async def test_killed_around_a_sample_of_its_writes_the_operator_comes_to_the_same_end(
    api_server: Path, shelf: Shelf, tmp_path: Path
) -> None:
    deaths, left = await lives(api_server, shelf, tmp_path, sample=SAMPLE, box=TIME_BOX)
    print(f"killed {deaths} times; did not come up again: {left}")
    assert deaths >= 4
    assert len(left) <= deaths, "most points must really have been died at"


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_killed_around_every_kind_of_write_the_operator_comes_to_the_same_end(
    api_server: Path, shelf: Shelf, tmp_path: Path
) -> None:
    deaths, left = await lives(api_server, shelf, tmp_path, sample=None, box=None)
    print(f"killed {deaths} times; did not come up again: {left}")
    assert deaths > SAMPLE
