"""A fleet whose hub was away comes back without a stampede: what the hub meets in its busiest second."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from edgefleet.kube import watching
from support import crowd, virtual
from support.fake_agent import Key

SITES = 150
KINDS = ("lists", "watches", "reports", "agents", "beats", "words", "pulls")


async def back_after(absence: float, folder: Path, patch: pytest.MonkeyPatch) -> crowd.Hub:
    """Let a fleet lose its hub for so many seconds; the hub as it is two minutes after."""
    random.seed(11)
    hub, key = crowd.Hub(), Key.new()
    crowd.stand_in(patch, hub)
    links = [crowd.link(hub, f"s{number}", key, folder) for number in range(SITES)]
    tasks = []
    try:
        for each in links:  # nobody starts a fleet in one second
            tasks.append(asyncio.create_task(each.run()))
            await asyncio.sleep(120 / SITES)
        await asyncio.sleep(130)
        assert [each.trouble for each in links if not each.synced.is_set()] == []
        hub.cut()
        for each in links:
            each.news()  # which nobody hears
        await asyncio.sleep(absence)
        hub.heal()
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(120)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    hub.asked = [(when - began, what) for when, what in hub.asked]
    return hub


def busiest(hub: crowd.Hub, what: str = "") -> int:
    """Most requests within one second."""
    seconds = Counter(int(when) for when, said in hub.asked if what in ("", said))
    return max(seconds.values())


def count(hub: crowd.Hub, what: str) -> int:
    """All requests of a kind."""
    return sum(said == what for _, said in hub.asked)


def met(absence: float, folder: Path, *, chance: bool = True) -> crowd.Hub:
    """What the hub met, with all draws of chance or with the longest pause of each in the place of its draw."""
    with pytest.MonkeyPatch.context() as patch:
        if not chance:
            patch.setattr(random, "uniform", lambda _least, most: most)
            patch.setattr(watching, "spread", lambda *_: 0.0)
        return virtual.run(back_after(absence, folder, patch))


def test_a_fleet_that_was_cut_off_for_minutes_asks_little_in_any_second(tmp_path: Path) -> None:
    (spread := tmp_path / "spread").mkdir()
    (chorus := tmp_path / "chorus").mkdir()
    hub, stampede = met(300, spread), met(300, chorus, chance=False)
    for each in (hub, stampede):
        print(busiest(each), {what: (busiest(each, what), count(each, what)) for what in KINDS})
    assert busiest(stampede) >= 3 * SITES, "what is compared with is none"
    assert busiest(hub) <= busiest(stampede) / 4
    for what in ("lists", "reports", "agents", "pulls", "beats", "words"):
        assert busiest(hub, what) <= SITES / 3, what
    assert count(hub, "lists") == SITES, "each lists once, whatever its beats say meanwhile"
    assert count(hub, "reports") == SITES
    assert max(when for when, what in hub.asked if what == "reports") < 60, "and nobody is forgotten"


def test_a_hub_that_is_away_for_a_moment_has_its_fleet_back_in_seconds(tmp_path: Path) -> None:
    hub = met(3, tmp_path)
    assert max(when for when, what in hub.asked if what == "reports") < 10
    assert count(hub, "lists") == SITES
