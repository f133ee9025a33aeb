"""Windows as the hub goes by them. The hub's clock starts at noon; times are UTC."""

import copy
from typing import Any

import pytest
from edgefleet.core import names, parse, site_hub_pass
from edgefleet.core.decisions import OrderWrite
from edgefleet.core.seen import NamespaceSeen, SiteSeen, SpecError
from edgefleet.core.specs import AgentSpec, SiteWindows, TimeWindow
from support.fleet import World, served, world
from support.hubs import START, bundle

HOUR = 3600.0
NOON = "0 12 * * *"
NIGHT = "0 1 * * *"


def window(schedule: str = NIGHT, duration: str = "4h") -> list[dict[str, str]]:
    return [{"schedule": schedule, "duration": duration, "timeZone": "UTC"}]


def fleet(sites: str, concurrency: int = 10, **windows: Any) -> World:
    """Sites of one letter each, all of which have these windows."""
    made = world(sites, rollout={"waves": [{"name": "all", "maxConcurrency": concurrency}]})
    for name in sites:
        made.hub.give_windows(name, **windows)
    return made


def ordered(of: World) -> str:
    return "".join(sorted(of.hub.orders))


def to(of: World, hour: float) -> None:
    """Let time pass until so many hours after midnight of the first day."""
    of.hub.tick((hour - 12) * HOUR - (of.hub.now - START).total_seconds())
    for site in of.sites.values():
        site.sync()


def stage(of: World, name: str) -> str:
    return str(of.hub.orders[name]["status"].get("stage"))


# -- offers ------------------------------------------------------------------------------------------------
def test_nothing_is_offered_to_a_site_that_could_not_fetch_it_and_the_hub_looks_again_in_time() -> None:
    made = fleet("a", download=window())
    made.go(3)

    assert ordered(made) == ""
    assert made.hub.condition("Reconciling") == ("True", "WaveRunning")
    assert made.hub.message() == (
        "wave all: 0 of 1 healthy, 1 needed, 1 waiting for its window, the next opens at 2026-02-01T01:00:00Z"
    )
    for _ in range(1000):
        wait = made.hub.look().requeue_after
        assert wait is not None
        if made.hub.orders:
            break
        made.hub.tick(wait)
        made.sites["a"].sync()
    assert made.hub.now.strftime("%d %H:%M") == "01 00:45"


def test_an_offer_is_there_when_the_window_opens() -> None:
    made = fleet("a", download=window())
    to(made, 24.8)
    made.go(3)
    assert ordered(made) == "a"
    assert stage(made, "a") == "Waiting"

    to(made, 25)
    made.go(8)
    assert made.active()["a"] == made.hub.revision(1)


def test_a_model_is_offered_in_the_download_window_and_waits_staged_for_the_update_window() -> None:
    made = fleet("a", download=window(NOON), update=window())
    made.go(6)

    assert stage(made, "a") == "Staged"
    assert made.hub.message().endswith("1 waiting for its window, the next opens at 2026-02-01T01:00:00Z")
    to(made, 25)
    made.go(8)
    assert made.hub.condition("Ready") == ("True", "Complete")


def test_a_site_that_waits_gives_its_slot_to_one_that_can_begin() -> None:
    made = fleet("ab", 1, update=window())
    del made.hub.agents["b"]["spec"]["windows"]
    made.hub.look()
    assert [write.site for write in made.hub.look().orders] == ["a"]
    made.go(12)

    assert (stage(made, "a"), made.active()["b"]) == ("Staged", made.hub.revision(1))


def test_no_more_wait_for_their_windows_than_may_be_at_work() -> None:
    """Or all of a fleet would begin in the same minute of the night, whatever maxConcurrency says."""
    made = fleet("abcde", 2, update=window())
    made.go(12)
    assert ordered(made) == "ab"
    assert made.hub.message().endswith(
        "3 at work, 0 waiting at the site, 2 waiting for their windows, the next opens at 2026-02-01T01:00:00Z"
    )

    to(made, 25)
    most = 0
    for _ in range(30):
        made.go(1)
        most = max(
            most, sum(stage(made, name) in ("Canary", "Downloading", "Pending") for name in made.hub.orders)
        )
    assert most == 2
    assert set(made.active().values()) == {made.hub.revision(1)}


def test_a_site_whose_window_has_opened_takes_its_slot_back_before_it_says_so() -> None:
    made = fleet("ab", 1, update=window())
    made.go(6)
    assert ordered(made) == "a"
    made.hub.tick(13 * HOUR)
    for name in made.sites:
        made.hub.beat(name)

    assert [write.site for write in made.hub.look().orders] == []
    assert made.hub.rollout(1)["status"]["counts"]["inFlight"] == 1


def test_those_whose_windows_are_open_go_first_where_a_wave_is_limited() -> None:
    made = world("abc", rollout={"waves": [{"name": "one", "limit": 1, "soak": "1h"}]})
    for name in "ab":
        made.hub.give_windows(name, download=window())
    made.go(8)

    assert ordered(made) == "c"


def test_a_limited_wave_takes_a_second_site_that_waits_beside_the_first() -> None:
    made = world("ab", rollout={"waves": [{"name": "two", "limit": 2}]})
    for name in "ab":
        made.hub.give_windows(name, update=window())
    made.go(6)

    assert ordered(made) == "ab"


def test_a_wave_is_not_complete_while_a_site_waits() -> None:
    made = fleet("ab", update=window())
    del made.hub.agents["b"]["spec"]["windows"]
    made.go(20)

    assert made.hub.condition("Reconciling") == ("True", "WaveRunning")
    assert made.hub.message().startswith("wave all: 1 of 2 healthy, 1 needed, 1 waiting for its window")


def test_a_clock_nobody_believes_is_told_apart() -> None:
    made = fleet("a", update=window())
    made.go(6)
    made.hub.orders["a"]["status"] |= {"reason": "ClockUntrusted"}
    made.hub.look()

    assert made.hub.message().endswith(
        "1 waiting for its window, the next opens at 2026-02-01T01:00:00Z, 1 of them cannot judge it (clock or agent)"
    )


def test_a_site_that_catches_up_waits_for_its_window_too() -> None:
    made = served("a")
    made.hub.join("b")
    made.hub.give_windows("b", download=window())
    made.sites["b"] = type(made.sites["a"])("b", made.hub)
    made.go(5)
    assert ordered(made) == "a"

    to(made, 25)
    made.go(8)
    assert made.active()["b"] == made.hub.revision(1)


def test_windows_that_were_never_closed_change_nothing() -> None:
    plain, windowed = world("abc"), fleet("abc", download=window("* * * * *", "1h"))
    windowed.hub.edit(rollout={})
    assert [w.site for w in plain.go(8)] == [w.site for w in windowed.go(8)]


# -- going back ---------------------------------------------------------------------------------------------
def failing(**windows: Any) -> World:
    """Bundle 1 serves at a, b and c; bundle 2 is being offered and is about to fail at a."""
    made = served("abc", rollout={"waves": [{"name": "all", "maxConcurrency": 10}]})
    made.hub.edit(bundle=bundle(2))
    made.fail(2, "a")
    made.go(3)
    for name in "abc":
        made.hub.give_windows(name, **windows)
    return made


def back(written: list[OrderWrite]) -> list[tuple[str, bool]]:
    return sorted((write.site, write.order.go_back) for write in written if write.reason == "GoBack")


def test_going_back_waits_for_no_window_and_says_what_it_is() -> None:
    made = failing(download=window(), update=window())
    found = back(made.go(6))

    assert found == [("a", True), ("b", True), ("c", True)]
    assert set(made.active().values()) == {made.hub.revision(1)}


def test_only_sites_with_windows_are_told_that_they_go_back() -> None:
    """An agent that knows no windows would refuse an order with a field it does not know."""
    made = failing(update=window())
    del made.hub.agents["b"]["spec"]["windows"]
    del made.hub.agents["c"]["status"]["windows"]

    assert back(made.go(6)) == [("a", True), ("b", False), ("c", False)]


def test_a_site_that_gets_windows_on_its_way_back_is_told_that_it_goes_back() -> None:
    """Or it would go on serving what is banned until its window opens."""
    made = served("abc")
    made.hub.edit(bundle=bundle(2))
    made.fail(2, "a")
    made.sites["a"].steps = 6
    made.go(4)
    made.sites["b"].linked = False
    made.go(8)
    assert made.active()["b"] == made.hub.revision(2)
    assert not made.hub.orders["b"]["spec"].get("goBack", False)

    made.hub.give_windows("b", update=window())
    assert back(list(made.hub.look().orders)) == [("b", True)]
    made.sites["b"].linked = True
    made.go(4)
    assert set(made.active().values()) == {made.hub.revision(1)}


# -- policy -------------------------------------------------------------------------------------------------
KEY = "a1" * 32
WINDOWS = {"download": window(), "update": window("30 2 * * *", "90m")}
PROJECTED = SiteWindows(
    download=(TimeWindow(schedule=NIGHT, duration="4h"),),
    update=(TimeWindow(schedule="30 2 * * *", duration="90m"),),
)


def decided(made: World, name: str = "a") -> site_hub_pass.SiteDecision:
    made.hub.sites[name]["status"]["publicKeySHA256"] = KEY
    seen = next(site for site in made.hub.seen().sites if site.meta.name == name)
    return site_hub_pass.decide_site(
        SiteSeen(
            name=name,
            site=seen,
            namespace=NamespaceSeen(ours=True, public_key_sha256=KEY),
            binding_user=names.site_user(name, KEY),
            orders=(),
            operator_started=made.hub.started,
        ),
        made.hub.now,
    )


def condition(decision: site_hub_pass.SiteDecision, kind: str) -> tuple[str, str, str]:
    assert decision.status is not None
    found = next(item for item in decision.status.conditions if item.type == kind)
    return found.status, found.reason, found.message


def test_windows_and_bandwidth_go_down_as_policy() -> None:
    made = world("a")
    made.hub.sites["a"]["spec"] |= {"windows": WINDOWS, "bandwidth": {"limit": "2Mi"}}

    assert decided(made).agent == AgentSpec(windows=PROJECTED, bandwidth_limit="2Mi")


def test_no_windows_are_no_field_of_the_policy() -> None:
    made = world("a")
    made.hub.sites["a"]["spec"] |= {"windows": {"download": [], "update": []}, "bandwidth": {}}

    assert decided(made).agent is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"windows": {"update": window("0 25 * * *")}},
            "spec.windows.update[0].schedule: '0 25 * * *' is no schedule: bad hour",
        ),
        (
            {
                "windows": {
                    "download": [*window(), {"schedule": NIGHT, "duration": "4h", "timeZone": "Mars/Base"}]
                }
            },
            "spec.windows.download[1].timeZone: 'Mars/Base' is no time zone of the IANA list, such as Europe/Berlin",
        ),
        (
            {"bandwidth": {"limit": "fast"}},
            "spec.bandwidth.limit: 'fast' is not a quantity: write it like 256Mi or 500m",
        ),
    ],
)
def test_what_only_the_operator_can_see_is_said_with_its_field_and_the_policy_stays(
    change: dict[str, Any], said: str
) -> None:
    made = world("a")
    made.hub.give_windows("a", **WINDOWS)
    made.hub.sites["a"]["spec"] |= change
    decision = decided(made)

    assert condition(decision, "Stalled") == ("True", "InvalidSpec", said)
    assert decision.agent is None
    assert isinstance(next(iter(made.hub.seen().sites)).spec, SpecError)
    made.go(3)
    assert ordered(made) == "", "a site with a spec in error is open at the times it last was"


def test_an_agent_that_says_nothing_of_its_windows_is_too_old_for_them() -> None:
    made = world("a")
    made.hub.sites["a"]["spec"] |= {"windows": WINDOWS}
    made.hub.give_windows("a", **copy.deepcopy(WINDOWS))
    assert condition(decided(made), "Ready")[:2] == ("True", "Joined")

    del made.hub.agents["a"]["status"]["windows"]
    assert condition(decided(made), "Stalled")[:2] == ("True", "AgentTooOld")


def test_a_policy_reads_as_it_was_written() -> None:
    raw = {
        "metadata": {"name": "site"},
        "spec": {"heartbeatInterval": "120s", "windows": WINDOWS, "bandwidthLimit": "1Mi"},
    }

    assert parse.agent(raw).spec == AgentSpec(windows=PROJECTED, bandwidth_limit="1Mi")
