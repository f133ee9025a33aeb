"""A site whose windows are closed: what it does not begin, what goes on, and what no window ever holds up."""

from datetime import datetime, timedelta

import pytest
from edgefleet.core.local import FetchPaused, Wait
from edgefleet.core.order import Download, Mode, Stage
from edgefleet.core.window import ALWAYS, NO_WINDOWS, UNTRUSTED, Window, Windows
from support.site import START, Behaviour, Site, digest, environment, order

DAY = START + timedelta(days=1)


def shut(*kinds: str, until: datetime | None = DAY) -> Windows:
    closed = Window(open=False, changes_at=until)
    return Windows(**{kind: closed if kind in kinds else ALWAYS for kind in ("download", "update")})


def told(site: Site) -> tuple[str, str, str]:
    assert site.reported is not None
    return site.reported.stage.value, site.reported.reason, site.reported.message


# -- what is not begun -----------------------------------------------------------------------------------
def test_nothing_is_downloaded_outside_a_download_window(site: Site) -> None:
    site.windows = shut("download")
    site.give(order("bb", 2), Behaviour(version=2))
    site.watch(600)

    assert "fetch the bundle" not in site.log
    assert told(site) == ("Waiting", "WindowClosed", "the download window opens at 2026-01-02T00:00:00Z")
    site.windows = NO_WINDOWS
    site.run()
    assert site.selected == "bb"


def test_a_model_is_staged_in_the_download_window_and_installed_in_the_update_window(site: Site) -> None:
    site.windows = shut("update")
    site.give(order("bb", 2), Behaviour(version=2))
    site.watch(600)

    assert site.record.staged_for("bb") is not None
    assert "run the self-test" not in site.log
    assert told(site) == ("Staged", "WindowClosed", "the update window opens at 2026-01-02T00:00:00Z")
    site.windows = shut("download")
    site.run()
    assert site.selected == "bb"


def test_a_first_install_waits_like_any_other() -> None:
    site = Site()
    site.windows = shut("update")
    site.give(order("aa"), Behaviour())
    site.watch(600)

    assert (site.selected, told(site)[:2]) == ("none", ("Staged", "WindowClosed"))
    site.windows = NO_WINDOWS
    site.run()
    assert site.selected == "aa"


def test_a_download_under_way_stops_when_its_window_closes_and_goes_on_in_the_next(site: Site) -> None:
    site.downloading = 60.0
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: told(site)[0] == "Downloading")
    site.advance(5)
    site.windows = shut("download")
    site.run(until=lambda: told(site)[0] == "Waiting")

    assert isinstance(site.fetch, FetchPaused)
    assert site.reported is not None
    assert site.reported.download == Download(done=1, total=2)
    site.watch(600)
    assert site.log.count("the download window has closed") == 1
    site.windows = NO_WINDOWS
    site.run()
    assert site.selected == "bb"


def test_a_download_that_failed_is_not_tried_again_outside_the_window(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2, fetch=environment("RegistryUnreachable")))
    site.run(until=lambda: told(site)[1] == "RegistryUnreachable")
    site.windows = shut("download")
    site.watch(600)

    assert told(site)[:2] == ("Waiting", "WindowClosed")
    assert "try the download again" not in site.log


def test_a_self_test_that_ends_after_the_window_closed_is_followed_by_nothing(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: "run the self-test" in site.log)
    site.windows = shut("update")
    site.watch(600)

    assert told(site)[:2] == ("Staged", "WindowClosed")
    assert site.live("bb") == []
    site.windows = NO_WINDOWS
    site.run()
    assert site.selected == "bb"
    assert site.log.count("run the self-test") == 1


# -- what goes on -----------------------------------------------------------------------------------------
def test_a_canary_under_way_goes_on_when_the_window_closes(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: bool(site.live("bb")))
    site.windows = shut("download", "update")
    site.crash()
    site.run()

    assert site.selected == "bb"


def test_what_serves_is_looked_after_whatever_the_windows(site: Site) -> None:
    site.windows = shut("download", "update")
    del site.objects["Deployment", "team-digits-aa"]
    site.advance(0)
    site.run()
    assert len(site.ready("aa")) == 1

    site.give(order("aa", 1, replicas=3))
    site.run()
    assert len(site.ready("aa")) == 3


def test_a_lost_store_is_filled_again_whatever_the_windows(site: Site) -> None:
    site.windows = shut("download", "update")
    site.record = type(site.record)(spec=site.record.spec, identity=site.record.identity)
    site.crash()
    site.run()

    assert "fetch again what serves" in site.log
    assert told(site)[:2] == ("Serving", "Serving")


# -- going back ---------------------------------------------------------------------------------------------
def test_a_canary_that_fails_outside_the_window_goes_back_at_once(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2, errors=0.5))
    site.run(until=lambda: bool(site.live("bb")))
    site.windows = shut("download", "update")
    site.run(until=lambda: told(site)[0] == "RolledBack")
    site.run()

    assert (site.selected, site.live("bb")) == ("aa", [])


@pytest.mark.parametrize("mode", Mode)
def test_an_order_back_to_what_served_well_waits_for_no_window(site: Site, mode: Mode) -> None:
    site.give(order("bb", 2, mode=Mode.DIRECT), Behaviour(version=2))
    site.run()
    site.windows = shut("download", "update")
    site.give(order("aa", 1, mode=mode, replaces=digest("bb2")))
    site.run()

    assert site.selected == "aa"


def test_an_order_back_to_what_never_served_here_waits_for_no_window_if_the_hub_says_what_it_is() -> None:
    site = Site()
    site.give(order("bb", 2, mode=Mode.DIRECT), Behaviour(version=2))
    site.run()
    site.windows = shut("download", "update")
    back = {"mode": Mode.DIRECT, "replaces": digest("bb2")}
    site.give(order("aa", 1, **back), Behaviour(version=1))
    site.watch(600)
    assert (site.selected, told(site)[:2]) == ("bb", ("Waiting", "WindowClosed"))

    site.give(order("aa", 1, go_back=True, **back))
    site.run()
    assert site.selected == "aa"


def test_a_hot_fix_is_no_way_back(site: Site) -> None:
    site.windows = shut("update")
    site.give(order("bb", 2, mode=Mode.DIRECT), Behaviour(version=2))
    site.watch(600)

    assert (site.selected, told(site)[:2]) == ("aa", ("Staged", "WindowClosed"))


def test_another_attempt_at_what_failed_in_the_fleet_is_no_way_back(site: Site) -> None:
    """It served here at attempt 1; attempt 2 is a trial like any other."""
    site.give(order("bb", 2, mode=Mode.DIRECT), Behaviour(version=2))
    site.run()
    site.windows = shut("update")
    site.give(order("aa", 1, attempt=2, replaces=digest("bb2")))
    site.watch(600)

    assert (site.selected, told(site)[:2]) == ("bb", ("Staged", "WindowClosed"))


# -- time -------------------------------------------------------------------------------------------------
def test_a_window_is_no_time_without_progress(site: Site) -> None:
    site.windows = shut("update")
    site.give(order("bb", 2), Behaviour(version=2))
    site.watch(3 * 3600)
    site.windows = NO_WINDOWS
    site.run()

    assert site.selected == "bb"
    assert site.record.refused == ()


def test_an_order_that_waits_for_its_window_lapses_when_the_hub_stays_silent(site: Site) -> None:
    site.windows = shut("update")
    site.give(order("bb", 2), Behaviour(version=2))
    site.watch(600)
    site.hub_silent = 25 * 3600.0
    site.windows = NO_WINDOWS
    site.run()
    assert (site.selected, told(site)[:2]) == ("aa", ("Waiting", "OrderLapsed"))

    site.hub_silent = 0.0
    site.run()
    assert site.selected == "bb"


def test_a_self_test_that_is_tried_again_is_no_order_never_begun(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2, selftest_exit=2))
    site.run(until=lambda: "run the self-test" in site.log)
    site.hub_silent = 25 * 3600.0
    site.run(until=lambda: "try the self-test again" in site.log)
    site.behaviours["bb"] = Behaviour(version=2)
    site.run()

    assert site.selected == "bb"


def test_a_closed_window_is_looked_at_when_it_opens_and_now_and_then(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.windows = shut("download", until=site.moment + timedelta(seconds=20))
    decision = site.step()
    assert isinstance(decision.action, Wait)
    assert decision.requeue_after == 20.0
    site.windows = shut("download", until=site.moment + timedelta(days=20))
    assert site.step().requeue_after == 60.0
    site.windows = shut("download", until=None)
    assert site.step().requeue_after == 60.0
    assert told(site)[2] == "the download window is closed, and no time is known at which it opens"


def test_with_a_clock_nobody_believes_nothing_is_begun_and_going_back_works(site: Site) -> None:
    closed = Window(open=False, changes_at=None)
    site.windows = Windows(closed, closed, UNTRUSTED, "the clock shows 1970-01-01")
    site.give(order("bb", 2), Behaviour(version=2))
    site.watch(600)
    assert told(site) == (
        Stage.WAITING.value,
        "ClockUntrusted",
        "no download window is open: the clock shows 1970-01-01; going back needs none",
    )


def test_a_limited_download_says_so(site: Site) -> None:
    site.bandwidth = "2Mi"
    site.downloading = 60.0
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: told(site)[0] == "Downloading")
    site.step()

    assert told(site)[2] == "at most 2Mi bytes per second"
