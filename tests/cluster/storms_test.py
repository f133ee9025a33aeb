"""Random histories on a real API server, the operator in bad weather and killed at random: no promise is broken.

The seed fixes what happens; when it meets the operator is left to the machine, so a failure is told with its record.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support import hub_chart
from support.aftermath import all_is_as_it_should, at_rest, nothing_was_broken, picture
from support.cluster import admin
from support.fake_agent import Plan, ca_of
from support.hub import Fleet, Operator, Shelf, digest
from support.storms import HEARTBEAT, Record, Step, Storm, history, plans
from support.weather import Weather

pytestmark = pytest.mark.cluster

SEED = 20260101
LENGTH = 14
BUNDLES = 6
SETTLED = (
    Step("apply", number=0),
    Step("apply", number=1),  # fails at b
    Step("policy", number=0),
    Step("apply", number=2),
    Step("relabel", "a", 1),
    Step("apply", number=3),  # fails at c
)


@contextlib.asynccontextmanager
async def storm(
    api_server: Path, shelf: Shelf, folder: Path, seed: int
) -> AsyncIterator[tuple[Storm, Record]]:
    """A fleet of four sites, its operator behind the weather, and somebody who writes everything down."""
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
            operator = Operator(way, shelf, folder / "operator.log", launcher=launcher)
            operator.start()
            try:
                await operator.ready(seconds=120)
                async with Fleet(api) as fleet, Record().kept(api, fleet.namespace) as record:
                    for short, fate in plans(seed, bundles).items():
                        labels = {"site": short, "ring": "0" if short in "ab" else "1"}
                        await fleet.join(short, labels=labels, plan=fate, heartbeat=HEARTBEAT)
                    hurry = random.Random(f"pauses {seed}")
                    yield Storm(fleet, operator, weather, plan, bundles, hurry), record
            finally:
                weather.calm = True
                _end(operator, plan)
                print(operator.tail(60))  # shown by pytest when the test failed


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
        life.weather.calm = False
        for step in steps:
            print(step)
            await life.do(step)
        await life.quiet()
        await at_rest(life.fleet, seconds=90)
        nothing_was_broken(record)
        end = await all_is_as_it_should(life.fleet)
        return f"seed {seed}: {len(steps)} steps, {life.kills} kills, {dict(life.weather.log)}, {len(record.seen)} versions; {end}"


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
                agent.plan = Plan(fails=dict.fromkeys(bad, "GoldenDisagrees"))
            ends[calm] = [await _end_of(life, step, calm=calm) for step in SETTLED]
            nothing_was_broken(record)
            print(dict(life.weather.log), life.kills)
    for number, step in enumerate(SETTLED):
        assert ends[True][number] == ends[False][number], f"{step} ended differently in bad weather"


async def _end_of(life: Storm, step: Step, *, calm: bool) -> Any:
    """One step, in bad weather with the operator killed on the way, and what comes of it."""
    life.weather.calm = calm
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
