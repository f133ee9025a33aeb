"""Who is set aside, why, for how long, and never more than a share of the fleet."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from edgefleet.core import flapping, names, parse, quarantine, units
from edgefleet.core.quarantine import Decision, Evidence, Policy
from edgefleet.core.seen import SiteObject
from edgefleet.core.statuses import Connectivity
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fleet import World, served
from support.hubs import START, Hub, raw, site_raw

HOUR = timedelta(hours=1)
MODEL = "vision.digits"


def refused(site: str, *revisions: str, ago: timedelta = HOUR, attempt: int = 1) -> Evidence:
    """Refusals by one site of revisions that are good elsewhere, an hour ago."""
    return Evidence(
        tuple(
            quarantine.Refused(site, MODEL, revision, attempt, "GoldenDisagrees", START - ago)
            for revision in revisions
        ),
        frozenset(f"{MODEL}/{revision}" for revision in revisions),
    )


def site(name: str, *, joined: bool = True, release: str = "", **status: Any) -> SiteObject:
    """A joined site as it is remembered."""
    made = site_raw(name)
    made["status"] |= {"publicKeySHA256": name.encode().hex()} if joined else {}
    made["status"] |= status
    made["metadata"]["annotations"] = {names.RELEASE: release} if release else {}
    return parse.site(made)


def held(since: datetime, lasts: timedelta = timedelta(hours=24)) -> dict[str, Any]:
    """What a site in quarantine remembers."""
    times = {"since": units.timestamp(since), "until": units.timestamp(since + lasts)}
    return {"quarantine": {**times, "reason": "RepeatedFailures", "message": "refused 3 revisions"}}


def flaps(number: int, *, of: str = "Connectivity", each: timedelta = timedelta(minutes=5)) -> dict[str, Any]:
    """So many changes, the latest a minute ago."""
    last = START - timedelta(minutes=1)
    times = [units.timestamp(last - each * back) for back in reversed(range(number))]
    return {"flaps": [{"time": time, "of": of, "mark": str(index)} for index, time in enumerate(times)]}


def decide(
    sites: Sequence[SiteObject], *found: Evidence, policy: Policy | None = None, now: datetime = START
) -> Decision:
    return quarantine.decide(sites, found, policy or Policy(), now)


def admitted(decision: Decision) -> list[str]:
    return [change.site.meta.name for change in decision.admissions]


def released(decision: Decision) -> list[str]:
    return [change.site.meta.name for change in decision.releases]


# -- evidence -----------------------------------------------------------------------------------------


def test_a_site_that_refused_three_good_revisions_is_set_aside_and_told_why() -> None:
    (change,) = decide([site("paris")], refused("paris", "aa", "bb", "cc")).admissions
    assert change.quarantine is not None
    assert change.quarantine.reason == "RepeatedFailures"
    assert change.quarantine.until == units.timestamp(START + timedelta(hours=24))
    assert "3 revisions" in change.quarantine.message
    assert "cc of vision.digits (GoldenDisagrees)" in change.quarantine.message


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([refused("paris", "aa", "bb")], id="two refusals"),
        pytest.param([refused("paris", "aa", "bb"), refused("paris", "bb")], id="one of them told twice"),
        pytest.param([refused("paris", "aa", "bb"), refused("lyon", "cc")], id="another site's"),
        pytest.param(
            [refused("paris", "aa", "bb"), refused("paris", "cc", ago=25 * HOUR)], id="one long ago"
        ),
        pytest.param(
            [refused("paris", "aa", "bb"), refused("paris", "cc", ago=-HOUR)],
            id="one in the future of a clock that was set back",
        ),
    ],
)
def test_less_than_that_is_not_enough(found: list[Evidence]) -> None:
    assert not decide([site("paris")], *found).admissions


def test_attempts_at_one_revision_count_each() -> None:
    found = [refused("paris", "aa", attempt=attempt) for attempt in (1, 2, 3)]
    assert admitted(decide([site("paris")], *found)) == ["paris"]


@pytest.mark.parametrize(
    ("outcome", "healthy", "failed", "desired", "good"),
    [
        ("Complete", 0, 3, "Run", True),
        ("", 5, 1, "Run", True),
        ("", 1, 1, "Run", False),
        ("", 0, 1, "Run", False),
        ("Superseded", 5, 1, "Run", True),
        ("RolledBack", 1, 5, "Run", False),
        ("RolledBack", 5, 1, "Run", True),
        ("Aborted", 5, 1, "Aborted", False),
        ("Complete", 5, 1, "Aborted", False),
    ],
)
def test_only_what_is_good_elsewhere_speaks_against_a_site(
    outcome: str, healthy: int, failed: int, desired: str, good: bool
) -> None:
    world = served("ab")
    live = world.hub.rollout(1)
    live["status"] |= {"outcome": outcome, "counts": {"healthy": healthy, "failed": failed}}
    live["status"]["failures"] = [
        {"site": "a", "reason": "Bad", "message": "", "time": units.timestamp(START), "wave": ""}
    ]
    live["spec"]["desired"] = desired
    rollout = parse.rollout(live)
    assert rollout is not None
    found = quarantine.evidence("vision", "digits", [rollout])
    assert [item.site for item in found.refused] == (["a"] if good else [])
    assert found.good == (frozenset({f"{MODEL}/{world.hub.revision(1)}"}) if good else frozenset())


def test_what_failed_with_its_whole_cohort_says_nothing_against_a_site() -> None:
    world = served("ab")
    live = world.hub.rollout(1)
    failure = {"reason": "Bad", "message": "", "time": units.timestamp(START), "wave": ""}
    live["status"]["failures"] = [
        {"site": "a", "cohorts": ["arch=arm64"], **failure},
        {"site": "b", "cohorts": ["arch=amd64"], **failure},
    ]
    live["status"]["holds"] = [
        {"cohort": "arch=arm64", "failed": 2, "seen": 3, "since": units.timestamp(START), "message": ""}
    ]
    rollout = parse.rollout(live)
    assert rollout is not None
    found = quarantine.evidence("vision", "digits", [rollout])
    assert [item.site for item in found.refused] == ["b"]


def test_a_site_that_comes_and_goes_is_set_aside() -> None:
    (change,) = decide([site("paris", **flaps(6)), site("lyon", **flaps(5))]).admissions
    assert change.site.meta.name == "paris"
    assert change.quarantine is not None
    assert (change.quarantine.reason, change.quarantine.message) == (
        "Flapping",
        "its connectivity changed 6 times within 1 h",
    )


def test_slow_changes_are_no_flapping() -> None:
    assert not decide([site("paris", **flaps(6, each=timedelta(minutes=20)))]).admissions


@pytest.mark.parametrize(("crashes", "good", "out"), [(3, True, True), (2, True, False), (3, False, False)])
def test_a_promoted_revision_that_keeps_crashing_where_it_is_good_elsewhere(
    crashes: int, good: bool, out: bool
) -> None:
    found = Evidence((), frozenset({f"{MODEL}/aa"} if good else ()))
    decision = decide([site("paris", **flaps(crashes, of=f"{MODEL}/aa"))], found)
    assert [c.quarantine.reason for c in decision.admissions if c.quarantine] == ["CrashLooping"] * out


# -- the share ----------------------------------------------------------------------------------------


def test_no_more_than_the_share_is_set_aside_first_come_first_served_and_the_others_are_told() -> None:
    sites = [site(f"s{number:02}") for number in range(20)]
    found = [
        refused("s07", "aa", "bb", "cc", ago=3 * HOUR),
        refused("s03", "aa", "bb", "cc", ago=2 * HOUR),
        refused("s01", "aa", "bb", "cc", ago=2 * HOUR),
    ]
    decision = decide(sites, *found)
    assert admitted(decision) == ["s07", "s01"]
    assert "2 of 20 sites" in decision.kept_out["s03"]
    assert decide(sites[::-1], *found[::-1]) == decision


@pytest.mark.parametrize(
    ("share", "joined", "room"),
    [("10%", 1, 1), ("10%", 9, 1), ("10%", 20, 2), ("10%", 29, 2), ("0%", 100, 0), ("100%", 3, 3)],
)
def test_the_share_is_rounded_down_but_one_is_always_possible(share: str, joined: int, room: int) -> None:
    assert quarantine.capacity(Policy(max_share=share), joined) == room


def test_whoever_is_set_aside_has_the_place_before_others() -> None:
    sites = [site("a", **held(START - HOUR)), site("b")]
    decision = decide(sites, refused("b", "aa", "bb", "cc", ago=5 * HOUR))
    assert (admitted(decision), released(decision), list(decision.kept_out)) == ([], [], ["b"])


def test_when_the_fleet_shrinks_whoever_came_last_goes_first_and_is_forgiven_nothing() -> None:
    sites = [site("a", **held(START - 2 * HOUR)), site("b", **held(START - HOUR)), site("c")]
    (change,) = decide(sites).releases
    assert (change.site.meta.name, change.quarantine, change.released) == ("b", None, None)


def test_a_site_that_has_not_joined_takes_no_place() -> None:
    sites = [site(f"s{number}") for number in range(10)] + [
        site(f"t{number}", joined=False) for number in range(10)
    ]
    found = [refused(f"s{number}", "aa", "bb", "cc") for number in range(3)]
    assert len(decide(sites, *found).admissions) == 1


def test_a_share_of_nothing_releases_all_and_sets_nobody_aside() -> None:
    sites = [site("a", **held(START - HOUR)), site("b")]
    decision = decide(sites, refused("b", "aa", "bb", "cc"), policy=Policy(max_share="0%"))
    assert (released(decision), admitted(decision), dict(decision.kept_out)) == (["a"], [], {})


# -- release ------------------------------------------------------------------------------------------


def test_a_site_is_released_when_its_time_is_over_and_not_for_what_was_before() -> None:
    paris = site("paris", **held(START - 24 * HOUR))
    decision = decide([paris], refused("paris", "aa", "bb", "cc"))
    (change,) = decision.releases
    assert change.released == units.timestamp(START)
    later = site("paris", releasedAt=change.released)
    assert not decide([later], refused("paris", "aa", "bb", "cc")).admissions
    fresh = refused("paris", "dd", "ee", "ff", ago=-timedelta(minutes=1))
    assert admitted(decide([later], fresh, now=START + timedelta(minutes=2))) == ["paris"]


def test_a_person_releases_a_site_and_older_evidence_counts_no_more() -> None:
    now = units.timestamp(START)
    paris = site("paris", release=now, **held(START - HOUR))
    decision = decide([paris], refused("paris", "aa", "bb", "cc"))
    (change,) = decision.releases
    assert change.released == now
    assert not decision.admissions
    again = site("paris", release=now, releasedAt=now)
    assert not decide([again], refused("paris", "aa", "bb", "cc")).admissions


def test_a_release_from_before_the_quarantine_ends_nothing() -> None:
    paris = site("paris", release=units.timestamp(START - 2 * HOUR), **held(START - HOUR))
    assert not decide([paris]).releases


@pytest.mark.parametrize("text", ["yes", "2099-01-01T00:00:00Z"])
def test_a_release_that_is_no_time_of_the_past_is_ignored(text: str) -> None:
    paris = site("paris", release=text, **held(START - HOUR))
    assert not decide([paris]).releases
    lyon = site("lyon", release=text)
    assert admitted(decide([lyon], refused("lyon", "aa", "bb", "cc"))) == ["lyon"]


def test_after_the_hubs_clock_was_set_back_nobody_stays_longer_than_the_policy_says() -> None:
    year = timedelta(days=365)
    paris = site("paris", **held(START + year))
    (change,) = decide([paris]).admissions
    assert change.quarantine is not None
    assert change.quarantine.until == units.timestamp(START + timedelta(hours=24))
    assert change.quarantine.since == units.timestamp(START)
    forgiven = site("lyon", releasedAt=units.timestamp(START + year))
    decision = decide([forgiven], refused("lyon", "aa", "bb", "cc"))
    assert [change.released for change in decision.releases] == [units.timestamp(START)]
    assert not decision.admissions


def test_the_next_look_is_when_the_first_is_released() -> None:
    decision = decide([site("a", **held(START - 23 * HOUR)), site("b")])
    assert decision.requeue_after == 3600.0


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_whatever_happens_there_are_never_more_than_the_share_and_a_second_look_changes_nothing(
    data: st.DataObject,
) -> None:
    hub, policy = Hub(), Policy(max_share="25%")
    for number in range(data.draw(st.integers(1, 9))):
        hub.join(f"s{number}")
    for _ in range(4):
        for name in list(hub.sites):
            match data.draw(st.sampled_from(("nothing", "flaps", "release", "leaves"))):
                case "flaps":
                    hub.sites[name]["status"]["flaps"] = [
                        {"time": units.timestamp(hub.now), "of": "Connectivity", "mark": str(index)}
                        for index in range(6)
                    ]
                case "release":
                    hub.release(name)
                case "leaves" if len(hub.sites) > 1:
                    del hub.sites[name]
        hub.tick(data.draw(st.sampled_from((1, 4000, 90000))))
        for writes in (data.draw(st.integers(0, 3)), 0, 100):
            decision = hub.set_aside(policy, writes)
            room = quarantine.capacity(policy, len(hub.sites))
            held_ = sum("quarantine" in item["status"] for item in hub.sites.values())
            if writes >= len(decision.releases):
                assert held_ <= room
        again = hub.set_aside(policy, 0)
        assert (again.releases, again.admissions) == ((), ())


# -- what it remembers --------------------------------------------------------------------------------


def remember(before: str, after: Connectivity, *, flaps_: int = 0, world: World | None = None) -> list[Any]:
    paris = site("paris", connectivity=before, **(flaps(flaps_) if flaps_ else {}))
    orders = [parse.deployment(item) for item in world.hub.orders.values()] if world else []
    return [(flap.of, flap.mark) for flap in flapping.remember(paris, after, orders, START)]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("Online", Connectivity.AWAY, [("Connectivity", "Away")]),
        ("Online", Connectivity.OFFLINE, [("Connectivity", "Offline")]),
        ("Away", Connectivity.ONLINE, [("Connectivity", "Online")]),
        ("Away", Connectivity.OFFLINE, []),
        ("Unknown", Connectivity.ONLINE, []),
        ("Online", Connectivity.ONLINE, []),
    ],
)
def test_changes_of_the_link_are_remembered(before: str, after: Connectivity, found: list[Any]) -> None:
    assert remember(before, after) == found


def test_the_memory_is_bounded_and_keeps_what_is_new() -> None:
    kept = remember("Online", Connectivity.AWAY, flaps_=flapping.REMEMBERED)
    assert len(kept) == flapping.REMEMBERED
    assert kept[-1] == ("Connectivity", "Away")


def test_each_crash_of_a_promoted_revision_is_remembered_once() -> None:
    world = served("a")
    said = world.hub.orders["a"]["status"]
    said |= {"reason": "NotReady", "message": "Crashed: exit code 1"}
    said["conditions"] = [
        {"type": "Ready", "status": "False", "reason": "NotReady", "lastTransitionTime": "then"}
    ]
    of = f"{MODEL}/{world.hub.revision(1)}"
    assert remember("Online", Connectivity.ONLINE, world=world) == [(of, "then")]
    known = site(
        "a", connectivity="Online", flaps=[{"time": units.timestamp(START), "of": of, "mark": "then"}]
    )
    orders = [parse.deployment(item) for item in world.hub.orders.values()]
    assert flapping.remember(known, Connectivity.ONLINE, orders, START) == known.status.flaps
    said["message"] = "Unschedulable: no memory"
    assert remember("Online", Connectivity.ONLINE, world=world) == []


# -- what it means for a model ------------------------------------------------------------------------


def set_aside(world: World, name: str) -> None:
    """The operator sets a site aside."""
    world.hub.sites[name]["status"] |= held(world.hub.now)


def test_a_quarantined_site_gets_no_new_revision_and_is_listed_once() -> None:
    world = served("abc")
    set_aside(world, "a")
    world.hub.edit(bundle="oci://registry.example/vision/digits@sha256:2" + "0" * 63)
    world.go(12)
    assert world.hub.condition("Ready") == ("True", "Complete")
    sites = world.hub.model["status"]["sites"] if world.hub.model else {}
    assert (sites["desired"], sites["updated"], sites["quarantined"]) == (2, 2, 1)
    old, new = world.hub.revision(1), world.hub.revision(2)
    assert world.active() == {"a": old, "b": new, "c": new}


def test_a_released_site_catches_up_with_the_latest_good_revision() -> None:
    world = served("abc")
    set_aside(world, "a")
    for number in (2, 3):
        world.hub.edit(bundle=f"oci://registry.example/vision/digits@sha256:{number}" + "0" * 63)
        world.go(12)
    world.hub.release("a")
    world.hub.set_aside()
    world.go(12)
    assert world.active()["a"] == world.hub.revision(3)


def test_a_quarantined_site_still_goes_back_and_still_removes() -> None:
    world = served("abcd", rollout={"waves": [{"name": "all", "maxFailures": 0, "soak": "1h"}]})
    world.hub.edit(bundle="oci://registry.example/vision/digits@sha256:2" + "0" * 63)
    world.go(6)
    new = world.hub.revision(2)
    assert world.active()["a"] == new
    set_aside(world, "a")
    world.hub.verb("digits-2", desired="Aborted")
    world.go(6)
    assert world.active()["a"] == world.hub.revision(1), "going back reaches it"
    world.hub.edit(placement={"siteSelector": {"matchLabels": {"ring": "none"}}})
    approval = f"removal-{(world.hub.model or {})['metadata']['generation']}"
    world.hub.verb("digits-2", approvals=[{"wave": approval, "by": "ann"}])
    world.go(6)
    assert world.active()["a"] == "", "removal reaches it"


def test_quarantine_in_flight_gives_the_slot_back_and_does_not_erase_the_failure() -> None:
    world = served("abc", rollout={"waves": [{"name": "all", "maxConcurrency": 1, "maxFailures": 1}]})
    world.sites["a"].steps = 1000
    world.hub.edit(bundle="oci://registry.example/vision/digits@sha256:2" + "0" * 63)
    world.go(5)
    assert world.ordered() == {
        "a": world.hub.revision(2),
        "b": world.hub.revision(1),
        "c": world.hub.revision(1),
    }
    set_aside(world, "a")
    world.go(1)
    assert world.ordered()["b"] == world.hub.revision(2), "its slot is free"
    world.sites["a"].steps = 1
    world.fail(2, "a")
    world.go(8)
    status = world.hub.rollout(2)["status"]
    assert status["counts"]["failed"] == 1, "the failure is not forgotten"
    assert [wave["failed"] for wave in status["waves"]] == [1]
    assert raw(status)["outcome"] == "Complete"


def test_sites_that_fail_again_and_again_come_to_quarantine_by_themselves() -> None:
    policy = {"waves": [{"name": "all", "maxFailures": 1}]}
    world = served("abcde", rollout=policy)
    for number in (2, 3, 4):
        assert not world.hub.set_aside().admissions
        world.fail(number, "c")
        world.hub.edit(bundle=f"oci://registry.example/vision/digits@sha256:{number}" + "0" * 63)
        world.go(12)
        assert world.hub.condition("Ready") == ("True", "Complete"), world.hub.message()
    assert admitted(world.hub.set_aside()) == ["c"]
    world.hub.edit(bundle="oci://registry.example/vision/digits@sha256:5" + "0" * 63)
    world.go(12)
    assert world.ordered()["c"] != world.hub.revision(5)
