"""Random histories on a real API server, the operator in bad weather and killed at random: no promise is broken.

The seed fixes what happens; when it meets the operator is left to the machine, so a failure is told with its record.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from edgefleet.core import names
from support import hub_chart
from support.aftermath import all_is_as_it_should, at_rest, nothing_was_broken, picture
from support.cluster import admin
from support.fake_agent import Plan, ca_of
from support.front import Front
from support.hub import Fleet, Operator, Shelf, digest
from support.real_sites import GATE, Town
from support.storms import (
    HEARTBEAT,
    MODEL,
    QUARANTINE,
    REAL_HEARTBEAT,
    REAL_KINDS,
    Record,
    Step,
    Storm,
    history,
    labels,
    plans,
)
from support.weather import Weather

pytestmark = pytest.mark.cluster

SEED = 20260101
LENGTH = 14
BUNDLES = 6
CANARY = {
    "steps": [{"shadow": 100, "duration": "1s"}, {"weight": 50, "duration": "1s"}],
    "gates": {"minRequests": 20},
}
SETTLED = (
    Step("apply", number=0),
    Step("apply", number=1),  # fails at b
    Step("policy", number=0),
    Step("apply", number=2),
    Step("relabel", "a", 1),
    Step("apply", number=3),  # fails at c
)


@contextlib.asynccontextmanager
async def hub_in(
    api_server: Path, shelf: Shelf, folder: Path, seed: int
) -> AsyncIterator[tuple[Storm, Record]]:
    """A fleet without sites yet, its operator behind the weather, and somebody who writes everything down."""
    straight = await hub_chart.install(api_server, folder)
    bundles = [await shelf.bundle() for _ in range(BUNDLES)]
    async with admin(api_server) as api:
        where = await api.connection()
        ca = folder / "ca.crt"
        ca.write_bytes(ca_of(where))
        weather = Weather(where.server, ca, random.Random(f"weather {seed}"))
        async with weather.blowing():
            plan = folder / "plan"
            plan.mkdir()
            way = weather.kubeconfig(straight, folder)
            launcher = ("-m", "support.failpoints", str(plan))
            operator = Operator(
                way, shelf, folder / "operator.log", launcher=launcher, environment=QUARANTINE
            )
            operator.start()
            try:
                await operator.ready(seconds=120)
                async with Fleet(api) as fleet, Record().kept(fleet) as record:
                    hurry = random.Random(f"pauses {seed}")
                    yield Storm(fleet, operator, weather, plan, bundles, hurry), record
            finally:
                weather.calm = True
                _end(operator, plan)
                print(operator.tail(60))  # shown by pytest when the test failed


@contextlib.asynccontextmanager
async def storm(
    api_server: Path, shelf: Shelf, folder: Path, seed: int
) -> AsyncIterator[tuple[Storm, Record]]:
    """A storm over six simulated sites."""
    async with hub_in(api_server, shelf, folder, seed) as (life, record):
        joins = [
            life.fleet.join(short, labels=labels(short), plan=fate, heartbeat=HEARTBEAT)
            for short, fate in plans(seed, life.bundles).items()
        ]
        await asyncio.gather(*joins)
        yield life, record


@contextlib.asynccontextmanager
async def real_storm(
    servers: tuple[Path, Path], shelf: Shelf, folder: Path, seed: int, sites: Sequence[str], houses: int = 2
) -> AsyncIterator[tuple[Storm, Record, Town]]:
    """A storm over sites with the real agent, with bad weather between them and the hub too. `servers`: hub's, sites'."""
    hub, site = servers
    async with hub_in(hub, shelf, folder, seed) as (life, record):
        api = life.fleet.api
        front = await Front.of(api, folder / "front")
        between = Weather(api.server, folder / "ca.crt", random.Random(f"links {seed}"), front=front)
        (town_folder := folder / "town").mkdir()
        fates = plans(seed, life.bundles, sites, ("GoldenDisagrees", GATE))
        async with (
            between.blowing(),
            Town.built(
                life.fleet,
                site,
                between,
                shelf,
                town_folder,
                fates,
                houses=houses,
                labels=lambda short: labels(short, sites),
                heartbeat=REAL_HEARTBEAT,
            ) as town,
        ):
            life.others, life.power, life.canary = (between,), town.power_cut, CANARY
            life.patience = 8.0  # a canary takes ten seconds
            yield life, record, town


def _end(operator: Operator, plan: Path) -> None:
    """Stop the operator; on a machine too busy for that, end its present life too."""
    try:
        operator.stop()
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((plan / "life").read_text()), signal.SIGKILL)


async def lived(api_server: Path, shelf: Shelf, folder: Path, seed: int, steps: list[Step]) -> str:
    """One history; returns what happened in one line."""
    async with storm(api_server, shelf, folder, seed) as (life, record):
        return f"seed {seed}: {await _through(life, record, steps)}"


async def lived_by_agents(
    servers: tuple[Path, Path],
    shelf: Shelf,
    folder: Path,
    seed: int,
    length: int,
    count: int,
    *,
    houses: int = 2,
) -> str:
    """One history of so many sites with the real agent; returns what happened in one line."""
    sites = [f"s{number}" for number in range(count)]
    steps = history(seed, length, BUNDLES, sites, REAL_KINDS)
    began = time.monotonic()
    async with real_storm(servers, shelf, folder, seed, sites, houses) as (life, record, town):
        joined = time.monotonic() - began
        told = await _through(life, record, steps, seconds=600)
        assert town.broken() == "", "an agent ended by itself"
        moves = await town.always_served()
        for site in town.sites.values():
            await site.obeys_its_memory(names.order_name(life.fleet.namespace, MODEL))
        links = dict(life.others[0].log)
        return f"seed {seed}: {count} agents joined in {joined:.0f} s; {told}; links {links}; {moves} times callers were moved"


async def _through(life: Storm, record: Record, steps: list[Step], seconds: float = 90) -> str:
    life.blow(calm=False)
    began = time.monotonic()
    for step in steps:
        print(step)
        await life.do(step)
    await life.quiet()
    await at_rest(life.fleet, seconds=seconds)
    nothing_was_broken(record)
    end = await all_is_as_it_should(life.fleet)
    took = f"{len(steps)} steps in {time.monotonic() - began:.0f} s, {life.kills} kills"
    return f"{took}, {dict(life.weather.log)}, {len(record.seen)} versions; {end}"


@pytest.mark.timeout(300)
async def test_a_history_in_bad_weather_breaks_no_promise_and_comes_to_rest(
    api_server: Path, shelf: Shelf, tmp_path: Path
) -> None:
    print(await lived(api_server, shelf, tmp_path, SEED, history(SEED, LENGTH, BUNDLES)))


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_bad_weather_changes_nothing_about_how_things_end(
    api_server: Path, shelf: Shelf, tmp_path: Path
) -> None:
    """The same steps in good weather and in bad, each left to come to rest: the same fleet after each."""
    ends: dict[bool, list[Any]] = {}
    for calm in (True, False):
        (folder := tmp_path / f"calm-{calm}").mkdir()
        async with storm(api_server, shelf, folder, SEED) as (life, record):
            fails = {"b": life.bundles[1], "c": life.bundles[3]}
            for short, agent in life.fleet.agents.items():
                bad = [digest(fails[short])] if short in fails else []
                agent.plan = Plan(fails=dict.fromkeys(bad, "GoldenDisagrees"), obeys_windows=True)
            ends[calm] = [await _end_of(life, step, calm=calm) for step in SETTLED]
            nothing_was_broken(record)
            print(dict(life.weather.log), life.kills)
    for number, step in enumerate(SETTLED):
        assert ends[True][number] == ends[False][number], f"{step} ended differently in bad weather"


async def _end_of(life: Storm, step: Step, *, calm: bool) -> Any:
    """One step, in bad weather with the operator killed on the way, and what comes of it."""
    life.blow(calm=calm)
    await life.do(step)
    if not calm:
        await asyncio.sleep(life.hurry.uniform(0.5, 3.0))
        await life.do(Step("kill"))
        await asyncio.sleep(life.hurry.uniform(0.5, 3.0))
    await life.quiet()
    await at_rest(life.fleet, seconds=90)
    return await picture(life.fleet, life.bundles)


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_no_long_history_in_bad_weather_breaks_a_promise(
    api_server: Path, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """STORMS of them (default 50) from seed STORM_SEED (default: another each time), 40 steps each."""
    first = int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(10**6))
    for seed in range(first, first + int(os.environ.get("STORMS", "50"))):
        folder = tmp_path_factory.mktemp(f"storm-{seed}")
        print(await lived(api_server, shelf, folder, seed, history(seed, 40, BUNDLES)), flush=True)


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_a_history_of_real_agents_in_bad_weather_breaks_no_promise(
    api_server: Path, site_api_server: Path, shelf: Shelf, tmp_path: Path
) -> None:
    print(await lived_by_agents((api_server, site_api_server), shelf, tmp_path, SEED, LENGTH, 5))


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_no_long_history_of_real_agents_in_bad_weather_breaks_a_promise(
    api_server: Path, site_api_server: Path, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """AGENT_STORMS of them (default 10) from seed STORM_SEED, AGENTS sites (default 8), 30 steps each."""
    first = int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(10**6))
    servers, count = (api_server, site_api_server), int(os.environ.get("AGENTS", "8"))
    for seed in range(first, first + int(os.environ.get("AGENT_STORMS", "10"))):
        folder = tmp_path_factory.mktemp(f"storm-{seed}")
        houses = max(2, count // 25)
        print(await lived_by_agents(servers, shelf, folder, seed, 30, count, houses=houses), flush=True)
