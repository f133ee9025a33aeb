"""A cordoned site begins nothing new, heard or not; what it has begun goes on, and so do going back and removal."""

import asyncio
from pathlib import Path

import pytest
from edgefleet.agent.clock import Clock
from edgefleet.agent.journal import Journal, Policy
from edgefleet.agent.policy import SitePolicy
from edgefleet.core.local import FetchPaused
from edgefleet.core.order import Mode, State
from support.site import Behaviour, Site, digest, order


def told(site: Site) -> tuple[str, str]:
    assert site.reported is not None
    return site.reported.stage.value, site.reported.reason


@pytest.mark.parametrize("mode", list(Mode))
def test_nothing_new_is_begun_and_the_site_says_so(site: Site, mode: Mode) -> None:
    site.cordoned = True
    site.give(order("bb", 2, mode=mode), Behaviour(version=2))
    site.watch(600)
    assert told(site) == ("Waiting", "Cordoned")
    assert (site.selected, site.log) == ("aa", [])
    site.cordoned = False
    site.run()
    assert site.selected == "bb"


def test_a_first_install_waits_too() -> None:
    site = Site()
    site.cordoned = True
    site.give(order("aa"), Behaviour())
    site.watch(600)
    assert (site.selected, told(site)) == ("none", ("Waiting", "Cordoned"))


def test_a_download_under_way_stops_and_keeps_its_bytes(site: Site) -> None:
    site.downloading = 60.0
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: told(site)[0] == "Downloading")
    site.advance(5)
    site.cordoned = True
    site.run(until=lambda: told(site)[0] == "Waiting")
    assert isinstance(site.fetch, FetchPaused)
    site.watch(600)
    assert told(site) == ("Waiting", "Cordoned")


def test_what_is_staged_is_not_tried(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: site.record.staged_for("bb") is not None)
    site.cordoned = True
    site.watch(600)
    assert told(site) == ("Waiting", "Cordoned")
    assert "run the self-test" not in site.log


def test_a_canary_that_has_begun_goes_on(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: told(site)[0] == "Canary")
    site.cordoned = True
    site.run()
    assert site.selected == "bb"


def test_going_back_goes_on(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run()
    assert site.selected == "bb"
    site.cordoned = True
    back = order("aa", 1, mode=Mode.DIRECT, replaces=digest("bb2"), go_back=True)
    site.give(back, Behaviour(version=1))
    site.run()
    assert site.selected == "aa"


def test_removal_goes_on(site: Site) -> None:
    site.cordoned = True
    site.give(order("aa", 1, state=State.REMOVE), Behaviour(version=1))
    site.run(until=lambda: told(site)[0] == "Removed")


@pytest.mark.parametrize(
    ("spec", "cordoned"),
    [({}, False), ({"cordoned": True}, True), ({"cordoned": False}, False), ({"cordoned": "yes"}, False)],
)
def test_the_word_of_the_hub_is_in_the_journal_and_outlives_the_agent(
    tmp_path: Path, spec: dict[str, object], cordoned: bool
) -> None:
    asyncio.run(Journal(tmp_path).set_policy(Policy(spec=spec, generation=3)))
    assert SitePolicy(Journal(tmp_path), Clock()).cordoned is cordoned
