"""The simulated site of `bench/fleet.py` says on the wire what the real agent says: same rollouts, both recorded."""

import asyncio
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from edgefleet.kube import kinds
from support.agents import SiteLab
from support.cluster import eventually
from support.fake_agent import FakeAgent, join_token
from support.hub import Fleet, Shelf
from support.recorder import Recorder, Request

from bench.lines import Lines, Traffic
from bench.simulated import SimulatedSite
from bench.simulated_orders import Nature
from bench.simulator import context, key_pem

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

CANARY = {
    "steps": [{"shadow": 100, "duration": "1s"}, {"weight": 50, "duration": "1s"}],
    "gates": {"minRequests": 20},
}
BEAT = {"interval": "5s", "offlineAfter": "60s"}
BY_MACHINE = frozenset({"inventory.soc", "inventory.firmware"})
"""What a site only says where its kernel names it."""
BY_TIMING = {"Downloading": frozenset({"download.done", "download.total"})}
"""What is only said when somebody looks in time."""


def fields(value: Any, prefix: str = "") -> set[str]:
    """Paths of all that a document says; of lists, those of their items."""
    if isinstance(value, dict):
        return {path for key, inner in value.items() for path in fields(inner, f"{prefix}.{key}".strip("."))}
    if isinstance(value, list):
        return {path for inner in value for path in fields(inner, prefix)} or {prefix}
    return {prefix}


def shape(request: Request) -> tuple[object, ...]:
    """A request without what differs from site to site and from time to time."""
    path = re.sub(r"/namespaces/site-[^/]+", "/namespaces/SITE", request.path)
    kept = {
        key.title(): value
        for key, value in request.headers.items()
        if key.title() not in ("Host", "Content-Length")
    }
    return request.method, path, tuple(sorted(request.query)), tuple(sorted(kept.items()))


def merge(live: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396."""
    done = dict(live)
    for key, value in patch.items():
        if value is None:
            done.pop(key, None)
        elif isinstance(value, dict):
            done[key] = merge(done.get(key, {}), value)
        else:
            done[key] = value
    return done


def statuses(requests: Iterable[Request], resource: str) -> list[dict[str, Any]]:
    """What stood in an object's status after each of the patches."""
    found: list[dict[str, Any]] = []
    for request in requests:
        if request.method == "PATCH" and f"/{resource}/" in request.path and request.status == 200:
            assert set(request.body) == {"metadata", "status"}
            assert set(request.body["metadata"]) == {"resourceVersion"}
            found.append(merge(found[-1] if found else {}, request.body["status"]))
    return found


def steps(reports: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    """Generation of the order, stage and reason of reports, each once in a row."""
    told = [(r["observedGeneration"], r.get("stage", "Pending"), r["reason"]) for r in reports]
    return [step for at, step in enumerate(told) if not at or told[at - 1] != step]


def stages(told: list[tuple[int, str, str]]) -> list[tuple[int, str]]:
    """The stages alone, without those in which a site only waits for a slow machine."""
    found = [(generation, stage) for generation, stage, _ in told if stage not in ("Pending", "Held")]
    return [step for at, step in enumerate(found) if not at or found[at - 1] != step]


async def online(fleet: Fleet, short: str) -> bool:
    site = await fleet.api.get(kinds.EDGE_SITE, None, fleet.name(short))
    return bool(site["status"].get("connectivity") == "Online")


async def simulated(fleet: Fleet, recorder: Recorder, folder: Path) -> SimulatedSite:
    """A simulated site that joined as any site does, behind the recorder."""
    agent = await FakeAgent.join(fleet.api, fleet.name("lean"))
    await agent.close()
    pair = key_pem(agent.key.private) + agent.certificate
    tls = context(recorder.ca.read_text(), pair, folder / "pair.tmp")
    lines = Lines("127.0.0.1", recorder.port, tls, Traffic())
    return SimulatedSite(fleet.name("lean"), agent.key.sha256, lines, Nature(stage=0.3))


async def test_a_simulated_site_says_on_the_wire_what_the_real_agent_says(
    api_server: Path, site_api_server: Path, fleet: Fleet, shelf: Shelf, tmp_path: Path
) -> None:
    name = fleet.name("real")
    async with (
        SiteLab.open(api_server, site_api_server, shelf, operator=True, name=name) as lab,
        Recorder.before(fleet.api, tmp_path) as recorder,
    ):
        hub = {"EDGEFLEET_HUB_SERVER": recorder.url, "EDGEFLEET_HUB_CA": str(recorder.ca)}
        lab.agent.environment = {**lab.agent.environment, **hub}
        for short in ("real", "lean"):
            await fleet.site(short, heartbeat=BEAT)
        (lab.folder / "token").write_text(await join_token(fleet.api, name))
        lean = asyncio.create_task((await simulated(fleet, recorder, tmp_path)).run())
        try:
            lab.agent.start()
            for short in ("real", "lean"):
                await eventually(partial(online, fleet, short), f"{short} is Online", seconds=120)
            for _ in ("installed", "updated by a canary"):
                await fleet.apply("digits", await shelf.bundle(), canary=CANARY)
                await fleet.ready("digits", seconds=120)
                await asyncio.sleep(6)  # a beat, and what was not yet said
        finally:
            lean.cancel()
            await asyncio.gather(lean, return_exceptions=True)

        by = {
            short: [r for r in recorder.seen if f":{fleet.name(short)}:" in r.user]
            for short in ("real", "lean")
        }
        assert {shape(r) for r in by["lean"]} == {shape(r) for r in by["real"]}

        beats = {
            short: {frozenset(fields(r.body)) for r in all_ if "/leases/" in r.path}
            for short, all_ in by.items()
        }
        assert beats["lean"] == beats["real"]

        agents = {short: fields(statuses(all_, "edgeagents")[-1]) for short, all_ in by.items()}
        assert agents["lean"] ^ agents["real"] <= BY_MACHINE

        reports = {short: statuses(all_, "edgedeployments") for short, all_ in by.items()}
        real, ours = steps(reports["real"]), steps(reports["lean"])
        assert stages(ours) == stages(real), (real, ours)
        # what is over too soon the agent does not report, and what takes too long it says anew with another reason
        assert len(set(ours) - set(real)) <= 3, set(ours) - set(real)
        assert len(set(real) - set(ours)) <= 2, set(real) - set(ours)
        whole = {
            short: {step: fields(r) for step, r in zip(_named(said), said, strict=True)}
            for short, said in reports.items()
        }
        for step in whole["real"].keys() & whole["lean"].keys():
            assert whole["lean"][step] ^ whole["real"][step] <= BY_TIMING.get(step[1], frozenset()), step


def _named(reports: list[dict[str, Any]]) -> list[tuple[int, str, str, int]]:
    return [
        (r["observedGeneration"], r.get("stage", "Pending"), r["reason"], r.get("canary", {}).get("step", -1))
        for r in reports
    ]
