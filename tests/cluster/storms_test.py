"""Random histories on a real API server, the operator in bad weather and killed at random: no promise is broken.

The seed fixes what happens; when it meets the operator is left to the machine, so a failure is told with its record.
"""

import contextlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import hub_chart
from support.aftermath import all_is_as_it_should, at_rest, nothing_was_broken
from support.cluster import admin
from support.fake_agent import ca_of
from support.hub import Fleet, Operator, Shelf
from support.storms import HEARTBEAT, Record, Step, Storm, history, plans
from support.weather import Weather

pytestmark = pytest.mark.cluster

SEED = 20260101
LENGTH = 14
BUNDLES = 6


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
                operator.stop()
                print(operator.tail(60))  # shown by pytest when the test failed


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
async def test_no_long_history_in_bad_weather_breaks_a_promise(
    api_server: Path, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """STORMS of them (default 50) from seed STORM_SEED (default: another each time), 40 steps each."""
    first = int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(10**6))
    for seed in range(first, first + int(os.environ.get("STORMS", "50"))):
        folder = tmp_path_factory.mktemp(f"storm-{seed}")
        print(await lived(api_server, shelf, folder, seed, history(seed, 40, BUNDLES)), flush=True)
