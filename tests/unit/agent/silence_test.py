"""How long a hub has been silent: a restart of the agent is no word from the hub."""

from pathlib import Path

import pytest
from edgefleet.agent.journal import Journal
from edgefleet.agent.silence import Silence
from edgefleet.core.order import Mode
from support.site import Behaviour, Site, environment, order

HOUR = 3600.0


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def test_silence_goes_on_after_a_restart(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    silence = Silence(Journal(tmp_path), clock)
    clock.now += 20 * HOUR
    await silence.write()
    clock = Clock(7.0)  # the box was started anew
    silence = Silence(Journal(tmp_path), clock)
    clock.now += 5 * HOUR
    assert silence.seconds == 25 * HOUR
    await silence.write()
    assert Journal(tmp_path).silent == 25 * HOUR


async def test_a_hub_that_answers_ends_it_for_the_next_life_too(tmp_path: Path) -> None:
    clock = Clock(0.0)
    silence = Silence(Journal(tmp_path), clock)
    clock.now += 20 * HOUR
    await silence.write()
    silence.heard()
    clock.now += 60.0
    assert silence.seconds == 60.0
    await silence.write()
    assert Silence(Journal(tmp_path), clock).seconds == 0.0


async def test_a_hub_that_answers_while_its_silence_is_written_ends_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, journal = Clock(0.0), Journal(tmp_path)
    silence, write = Silence(journal, clock), journal.set_silent
    clock.now += 20 * HOUR

    async def answered_meanwhile(seconds: float) -> None:
        if seconds:
            silence.heard()
        await write(seconds)

    monkeypatch.setattr(journal, "set_silent", answered_meanwhile)
    await silence.write()
    assert Journal(tmp_path).silent == 0.0


async def test_a_hub_that_beats_costs_no_write(tmp_path: Path) -> None:
    clock = Clock(0.0)
    silence = Silence(Journal(tmp_path), clock)
    for _ in range(10):
        clock.now += 120.0
        silence.heard()
        await silence.write()
    assert not (tmp_path / "journal.json").exists()


def test_an_order_whose_download_failed_lapses_too() -> None:
    site = Site()
    site.give(order("aa", 1, mode=Mode.DIRECT), Behaviour(version=1))
    site.run()
    site.give(order("bb", 2), Behaviour(version=2, fetch=environment("RegistryUnreachable")))
    site.run(until=lambda: "Blocked/RegistryUnreachable" in site.stages)
    site.hub_silent = 25 * 3600.0
    site.behaviours["bb"].fetch = None
    site.advance(300)
    site.run()
    assert (site.selected, site.stages[-1]) == ("aa", "Waiting/OrderLapsed")
