"""Stories of one site, told to their end, and tables of single decisions."""

from typing import Any

import msgspec
import pytest
from edgefleet.core import names
from edgefleet.core.canary import LEASE_FRESH
from edgefleet.core.local import Wait
from edgefleet.core.local_record import Record
from edgefleet.core.order import Mode, ModelRef, OnNoTraffic, Stage, State
from edgepod.contract import SelfTestReport
from support.site import STEPS, Behaviour, Site, digest, environment, order


def stage(site: Site) -> str:
    assert site.reported is not None
    return f"{site.reported.stage.value}/{site.reported.reason}"


def condition(site: Site, kind: str) -> str:
    assert site.reported is not None
    return next(item.status for item in site.reported.conditions if item.type == kind)


# -- the way forward --------------------------------------------------------------------------------------
def test_a_first_install_needs_no_canary_even_when_the_order_asks_for_one() -> None:
    site = Site(rate=0)
    site.give(order("aa", 1, on_no_traffic=OnNoTraffic.HOLD), Behaviour())
    site.run(seconds=60)
    assert (site.selected, stage(site)) == ("aa", "Serving/Serving")
    assert [condition(site, kind) for kind in ("Ready", "Reconciling", "Stalled")] == [
        "True",
        "False",
        "False",
    ]


def test_the_service_is_there_before_anything_serves_and_selects_nothing() -> None:
    site = Site()
    site.give(order("aa"), Behaviour())
    site.step()
    assert site.selected == "none"


def test_nothing_serves_before_its_self_test_passed() -> None:
    site = Site()
    site.give(
        order("aa"),
        Behaviour(selftest=SelfTestReport(passed=False, reason="GoldenDisagrees", message="70 %")),
    )
    site.run()
    assert (site.selected, stage(site)) == ("none", "RolledBack/GoldenDisagrees")
    assert site.reported is not None
    assert "nothing serves here" in site.reported.message


def test_a_canary_passes_all_its_steps_and_takes_over(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run()
    assert site.selected == "bb"
    assert [name for kind, name in site.objects if kind == "Deployment"] == ["team-digits-bb"]
    assert sorted(name for kind, name in site.objects if kind in ("Service", "Job")) == ["team-digits"]
    assert site.reported is not None
    assert site.reported.previous_revision == "aa"
    assert site.log.index("callers go to bb") < site.log.index(
        "Deployment team-digits-aa is not needed any more"
    )


def test_a_canary_takes_as_long_as_its_steps(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    before = site.now
    site.run()
    assert 15.0 <= site.now - before < 15.0 + 15.0


def test_the_old_pods_stay_as_long_as_callers_may_be_led_to_them(site: Site) -> None:
    site.give(order("bb", 2, mode=Mode.DIRECT), Behaviour(version=2))
    site.run(until=lambda: "bb passed" in site.log)
    site.freeze_endpoints()
    site.run(until=lambda: site.selected == "bb")
    for _ in range(100):
        site.step()
        site.advance(1.0)
        assert site.ready("aa")
    site.thaw_endpoints()
    site.run()
    assert site.live("aa") == []


def test_direct_mode_shares_no_traffic(site: Site) -> None:
    site.give(order("bb", 2, mode=Mode.DIRECT), Behaviour(version=2, errors=1.0))
    leases = []
    while site.selected != "bb":
        site.step()
        leases.append(site.leases)
        site.advance(0.5)
    assert not any(leases)


def test_three_replicas_move_without_ever_being_more_than_four(site: Site) -> None:
    site.give(order("aa", 1, mode=Mode.DIRECT, replicas=3))
    site.run()
    site.give(order("bb", 2, replicas=3), Behaviour(version=2))
    most = 0
    while stage(site) != "Serving/Serving" or site.selected != "bb":
        site.step()
        site.advance(0.2)
        most = max(most, len(site.live("aa")) + len(site.live("bb")))
        assert site.ready(site.selected)
    assert (most, len(site.live("bb")), site.live("aa")) == (4, 3, [])


def test_a_lost_journal_does_not_move_callers_before_all_new_pods_are_there(site: Site) -> None:
    site.give(order("aa", 1, mode=Mode.DIRECT, replicas=3))
    site.run()
    site.record = Record()
    site.crash()
    site.give(order("bb", 2, replicas=3), Behaviour(version=2))
    site.run(until=lambda: site.selected == "bb")
    assert len(site.ready("bb")) == 3
    assert len(site.live("aa")) == 1
    site.run()
    assert stage(site) == "Serving/Serving"


def test_a_promotion_keeps_the_canary_s_share_until_the_selector_moves(site: Site) -> None:
    site.give(order("aa", 1, mode=Mode.DIRECT, replicas=3))
    site.run()
    site.give(order("bb", 2, replicas=3), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Staged/Promoting")
    shares = []
    while site.selected == "aa":
        shares.append([lease.weight for lease in site.leases.values()])
        site.advance(0.2)
        site.step()
    assert len(shares) > 5
    assert shares == [[50]] * len(shares)
    assert site.step().leases == ()


def test_replicas_alone_change_in_place(site: Site) -> None:
    site.give(order("aa", 1, replicas=3))
    site.run()
    assert len(site.ready("aa")) == 3
    assert "run the self-test" not in site.log


def test_a_broken_serving_revision_is_replaced_without_comparison(site: Site) -> None:
    site.behaviours["aa"].start = "crash"
    site.give(order("bb", 2, on_no_traffic=OnNoTraffic.HOLD), Behaviour(version=2))
    site.run(seconds=200)
    assert (site.selected, stage(site)) == ("bb", "Serving/Serving")


# -- the way back -------------------------------------------------------------------------------------------
FAILURES = [
    ("a golden set that disagrees", Behaviour(selftest=SelfTestReport(passed=False, reason="GoldenDisagrees")), "GoldenDisagrees"),
    ("a crash", Behaviour(start="crash"), "Crashed"),
    ("more memory than its limit", Behaviour(start="oom"), "OutOfMemory"),
    ("pods that never get ready", Behaviour(start="never"), "DeadlineExceeded"),
    ("errors under traffic", Behaviour(errors=0.2), "ErrorRateTooHigh"),
    ("a canary the pods gave up themselves", Behaviour(dropped=True), "CanaryFailing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("behaviour", "reason"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
def test_the_site_goes_back_by_itself_and_remembers(site: Site, behaviour: Behaviour, reason: str) -> None:
    behaviour.version = 2
    site.give(order("bb", 2), behaviour)
    while stage(site) != f"RolledBack/{reason}":
        assert site.selected == "aa"
        assert site.ready("aa")
        site.step()
        site.advance(5.0 if behaviour.start == "never" else 0.5)
    site.run()
    assert (site.selected, stage(site)) == ("aa", f"RolledBack/{reason}")
    assert [item.revision for item in site.record.refused] == ["bb"]
    assert [name for kind, name in site.objects if kind != "Service"] == ["team-digits-aa"]
    assert condition(site, "Stalled") == "True"


def test_a_refused_revision_is_not_tried_again_at_its_attempt_but_at_the_next(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2, errors=0.5))
    site.run()
    site.crash()
    site.log.clear()
    site.give(order("bb", 2))
    site.run()
    assert site.log == []
    site.behaviours["bb"].errors = 0.0
    site.give(order("bb", 2, attempt=2))
    site.run()
    assert site.selected == "bb"


def test_a_canary_killed_from_outside_is_tried_again_and_not_blamed(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    site.kill_pod("bb")
    site.run()
    assert (site.selected, site.record.refused) == ("bb", ())
    assert "Canary/EvidenceRestarted" in site.stages


def test_a_canary_that_is_killed_again_and_again_is_blamed(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    for _ in range(3):
        site.run(until=lambda: stage(site) == "Canary/Step")
        site.kill_pod("bb")
    site.run()
    assert (site.selected, stage(site)) == ("aa", "RolledBack/CanaryRestarts")


def test_a_serving_pod_that_restarts_starts_the_evidence_again(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    step = site.progress.step
    site.kill_pod("aa")
    site.run(until=lambda: site.progress.step is not None and site.progress.step != step, seconds=30)
    assert site.progress.index == 0
    site.run()
    assert (site.selected, site.record.refused) == ("bb", ())


def test_a_canary_that_was_away_for_a_moment_starts_its_evidence_again(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    step = site.progress.step
    assert step is not None
    assert step.begun is not None
    site.run(until=lambda: site.now - (step.begun or 0) >= 4.0, seconds=30)
    site.live("bb")[0].unready = True
    site.run(until=lambda: stage(site) == "Canary/Starting", seconds=5)
    assert site.leases == {}
    site.advance(0.5)
    site.live("bb")[0].unready = False
    site.run(until=lambda: site.progress.index == 1, seconds=60)
    assert "Canary/GoldenStandsIn" not in site.stages
    assert site.now - step.begun >= 4.0 + 5.0


def test_passes_that_stood_still_longer_than_a_lease_start_the_evidence_again(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    step = site.progress.step
    site.advance(LEASE_FRESH + 1.0)
    site.run(until=lambda: site.progress.step not in (None, step) or site.progress.index > 0, seconds=30)
    assert site.progress.index == 0
    site.run(until=lambda: site.progress.index == 1, seconds=60)
    assert "Canary/GoldenStandsIn" not in site.stages


def test_a_serving_process_that_was_replaced_unseen_starts_the_evidence_again(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    pod = site.live("aa")[0]
    pod.start_id = "another process"
    site.step()
    assert stage(site) == "Canary/EvidenceRestarted"
    assert (site.progress.index, site.progress.kills) == (0, 0)


def test_a_gate_broken_by_a_canary_that_cannot_be_asked_waits_before_it_blames(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    site.behaviours["bb"].dropped = True
    site.live("bb")[0].health_readable = False
    site.run(until=lambda: stage(site) == "Canary/Confirming", seconds=30)
    (lease,) = site.leases.values()
    assert site.progress.step is not None
    assert (lease.step, lease.weight, lease.shadow) == (site.progress.step.id, 0, 0)
    site.run(until=lambda: stage(site) == "RolledBack/CanaryFailing", seconds=40)


def test_a_revision_that_stops_working_right_after_promotion_goes_back(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: site.selected == "bb")
    site.behaviours["bb"].start = "never"
    site.run(until=lambda: site.selected == "aa", seconds=120)
    site.run()
    assert (site.selected, stage(site)) == ("aa", "RolledBack/NotReadyAfterPromotion")


# -- holding ---------------------------------------------------------------------------------------------------
def test_silence_holds_and_ends_when_callers_come(site: Site) -> None:
    site.rate = 0
    site.give(order("bb", 2, on_no_traffic=OnNoTraffic.HOLD), Behaviour(version=2))
    for _ in range(400):
        site.step()
        site.advance(5.0)  # in all longer than progressDeadline
    assert stage(site) == "Held/NotEnoughTraffic"
    assert condition(site, "Reconciling") == "True"
    site.rate = 20
    site.run()
    assert site.selected == "bb"


def test_the_golden_set_stands_in_for_silent_callers(site: Site) -> None:
    site.rate = 0
    site.give(order("bb", 2), Behaviour(version=2))
    site.run()
    assert site.selected == "bb"
    assert "Canary/GoldenStandsIn" in site.stages


BLOCKED = [
    ("no registry", Behaviour(fetch=environment("RegistryUnreachable")), "RegistryUnreachable"),
    ("no disk", Behaviour(fetch=environment("DiskFull")), "DiskFull"),
    ("no image", Behaviour(start="noimage"), "ImagePullFailed"),
    ("no memory", Behaviour(start="nomemory"), "InsufficientMemory"),
    ("no store", Behaviour(start="nostore"), "PodEnvironment"),
    ("a quota that lets no pod in", Behaviour(start="quota"), "PodsNotCreated"),
    ("nobody who makes pods", Behaviour(start="nopod"), "PodsNotStarted"),
    ("nobody who starts pods", Behaviour(start="nokubelet"), "PodsNotStarted"),
    ("a self-test whose pod is never made", Behaviour(selftest_pod=False), "SelfTestNotStarted"),
    ("a self-test that could not run", Behaviour(selftest=SelfTestReport(passed=False, reason="StoreUnreachable"), selftest_exit=2), "StoreUnreachable"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("behaviour", "reason"), [row[1:] for row in BLOCKED], ids=[row[0] for row in BLOCKED]
)
def test_the_environment_blocks_for_hours_and_is_never_blamed(
    site: Site, behaviour: Behaviour, reason: str
) -> None:
    behaviour.version = 2
    site.give(order("bb", 2), behaviour)
    for _ in range(150):
        site.step()
        site.advance(60.0)
        assert site.ready("aa")
    assert f"Blocked/{reason}" in site.stages
    assert stage(site) == f"Blocked/{reason}" or "SelfTesting" in stage(site)
    assert site.record.refused == ()
    site.behaviours["bb"] = Behaviour(version=2)
    site.run(until=lambda: site.selected == "bb", seconds=300)


def test_a_name_that_is_taken_blocks_and_nothing_is_adopted() -> None:
    site = Site()
    site.objects["Service", "team-digits"] = {
        "metadata": {"name": "team-digits", "uid": "x", "labels": {}},
        "spec": {"selector": {"app": "theirs"}},
    }
    site.give(order("aa"), Behaviour())
    site.step()
    assert stage(site) == "Blocked/NameTaken"
    assert site.objects["Service", "team-digits"]["spec"] == {"selector": {"app": "theirs"}}


# -- orders that are not obeyed ------------------------------------------------------------------------------------
def test_an_older_version_needs_the_name_of_what_it_replaces(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run()
    site.give(order("aa", 1, mode=Mode.DIRECT))
    site.run()
    assert (site.selected, stage(site)) == ("bb", "Rejected/HubBehind")
    site.give(order("aa", 1, mode=Mode.DIRECT, replaces=digest("bb2")))
    site.run()
    assert (site.selected, stage(site)) == ("aa", "Serving/Serving")


def test_another_model_under_the_same_name_is_rejected(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2, name="letters"))
    site.run()
    assert (site.selected, stage(site)) == ("aa", "Rejected/BundleNameChanged")


@pytest.mark.parametrize(("length", "refused"), [(36, True), (35, False)])
def test_names_that_do_not_fit_a_self_test_are_rejected(length: int, refused: bool) -> None:
    """The Job's name ends in the revision's ten digits and `-selftest`; a label has 63 characters."""
    site = Site()
    given = order("0123456789")
    name = "m" * length
    site.give(msgspec.structs.replace(given, model=ModelRef(namespace="edgeflt", name=name)), Behaviour())
    decision = site.decide()
    assert (decision.report.reason == "NameTooLong") is refused
    assert (decision.report.stage is Stage.REJECTED) is refused
    assert isinstance(decision.action, Wait) is refused


def test_an_unreadable_order_changes_nothing_that_serves(site: Site) -> None:
    site.unreadable = "Object contains unknown field `quorum` - at `$.canary`"
    site.run()
    assert (site.selected, stage(site)) == ("aa", "Rejected/AgentTooOld")
    assert site.reported is not None
    assert "quorum" in site.reported.message


def test_an_unreadable_order_ends_a_canary_under_way(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    site.unreadable = "unknown field"
    site.run()
    assert [name for kind, name in site.objects if kind == "Deployment"] == ["team-digits-aa"]


def test_an_order_never_begun_lapses_when_the_hub_stays_silent(site: Site) -> None:
    site.hub_silent = 25 * 3600.0
    site.give(order("bb", 2), Behaviour(version=2))
    site.run()
    assert (site.selected, stage(site)) == ("aa", "Waiting/OrderLapsed")
    site.hub_silent = 0.0
    site.run()
    assert site.selected == "bb"


def test_an_order_that_was_begun_finishes_offline(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: bool(site.live("bb")))
    site.hub_silent = 30 * 24 * 3600.0
    site.crash()
    site.run()
    assert site.selected == "bb"


# -- the end, and what somebody else did ------------------------------------------------------------------------------
def test_removal_leaves_nothing_behind(site: Site) -> None:
    site.give(order("aa", 1, state=State.REMOVE))
    site.run()
    assert (site.objects, stage(site)) == ({}, "Removed/Removed")
    site.give(order("aa", 1, mode=Mode.DIRECT))
    site.run()
    assert site.selected == "aa"


def test_keep_ends_a_canary_and_leaves_what_serves(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    site.give(order("bb", 2, state=State.KEEP))
    site.run()
    assert stage(site) == "Removed/Kept"
    assert [name for kind, name in site.objects if kind == "Deployment"] == ["team-digits-aa"]
    assert site.selected == "aa"


def test_a_service_deleted_by_somebody_comes_back_as_it_was(site: Site) -> None:
    del site.objects["Service", "team-digits"]
    site.run()
    assert site.selected == "aa"


def test_a_deployment_deleted_by_somebody_comes_back_as_it_was(site: Site) -> None:
    del site.objects["Deployment", "team-digits-aa"]
    site.advance(0)
    site.run()
    assert len(site.ready("aa")) == 1


def test_a_selector_somebody_edited_is_put_back(site: Site) -> None:
    site.objects["Service", "team-digits"]["spec"]["selector"][names.REVISION] = "zz"
    site.run()
    assert site.selected == "aa"


def test_a_selector_moved_to_a_canary_under_way_is_put_back(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    site.objects["Service", "team-digits"]["spec"]["selector"][names.REVISION] = "bb"
    site.step()
    assert site.selected == "aa"


def test_a_lost_journal_keeps_what_serves_and_learns_again_what_it_is(site: Site) -> None:
    kept, site.record = site.record, type(site.record)(spec=site.record.spec, identity=site.record.identity)
    site.crash()
    site.run()
    assert (site.selected, stage(site)) == ("aa", "Serving/Serving")
    assert site.record.served == kept.served or site.record.served[0].staged == kept.served[0].staged
    assert "run the self-test" not in site.log


def test_a_lost_journal_away_from_the_registry_serves_on(site: Site) -> None:
    site.record = type(site.record)(spec=site.record.spec, identity=site.record.identity)
    site.behaviours["aa"].fetch = environment("RegistryUnreachable")
    site.crash()
    site.run()
    assert stage(site) == "Serving/Serving"
    assert site.reported is not None
    assert site.reported.active_version == 1


def test_a_newer_order_ends_a_canary_under_way(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    site.give(order("cc", 3), Behaviour(version=3))
    site.step()
    assert site.live("bb") == []
    site.run()
    assert site.selected == "cc"


# -- crashes ------------------------------------------------------------------------------------------------------------
STORIES: list[tuple[str, Behaviour, dict[str, Any]]] = [
    ("a good canary", Behaviour(version=2), {}),
    ("a good revision put in directly", Behaviour(version=2), {"mode": Mode.DIRECT}),
    ("three replicas", Behaviour(version=2), {"replicas": 3}),
    ("a canary that fails under traffic", Behaviour(version=2, errors=0.5), {}),
    ("a self-test that fails", Behaviour(version=2, selftest=SelfTestReport(passed=False, reason="GoldenDisagrees")), {}),
    ("a removal", Behaviour(version=2), {"state": State.REMOVE}),
]  # fmt: skip


@pytest.mark.parametrize("before", [True, False], ids=["right before a step", "right after a step"])
@pytest.mark.parametrize(
    ("behaviour", "fields"), [row[1:] for row in STORIES], ids=[row[0] for row in STORIES]
)
def test_an_agent_that_dies_at_any_step_ends_where_one_ends_that_never_dies(
    behaviour: Behaviour, fields: dict[str, Any], before: bool
) -> None:
    ends: list[tuple[object, ...]] = []
    death, finished = 0, False
    while not finished:
        site = Site()
        site.give(order("aa", 1, mode=Mode.DIRECT), Behaviour(version=1))
        site.run()
        site.give(order("bb", 2, **fields), Behaviour(**vars(behaviour)))
        taken = 0
        while taken < death:
            decision = site.decide()
            moving = type(decision.action).__name__ != "Wait"
            taken += moving
            if not (before and moving and taken == death):
                site.step()
            site.advance(0.5)
            finished = not moving and decision.requeue_after > 10
            if finished:
                break
        site.crash()
        site.run()
        ends.append((site.selected, stage(site), sorted(site.objects)))
        death += 1
    assert death >= 4
    assert len(set(map(str, ends))) == 1, ends


def test_a_report_names_its_order_and_the_site_writes_no_time_into_it(site: Site) -> None:
    decision = site.step()
    assert decision.report.order == site.record.identity
    assert decision.report.reported_at == ""


def test_clock_steps_change_no_decision(site: Site) -> None:
    from datetime import UTC, datetime

    from edgefleet.core.site_pass import decide_local

    site.give(order("bb", 2, steps=STEPS), Behaviour(version=2))
    for _ in range(60):
        seen = site.see()
        early = decide_local(seen, site.now, datetime(1970, 1, 1, tzinfo=UTC))
        late = decide_local(seen, site.now, datetime(2099, 1, 1, tzinfo=UTC))
        assert msgspec.structs.replace(early.report, conditions=(), refused=()) == msgspec.structs.replace(
            late.report, conditions=(), refused=()
        )
        assert early.requeue_after == late.requeue_after
        assert early.progress == late.progress
        site.step()
        site.advance(0.5)


# -- jurisdictions ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("here", ["US", ""], ids=["another one", "none"])
def test_an_order_for_another_jurisdiction_is_rejected_before_a_byte_is_fetched(here: str) -> None:
    site = Site()
    site.jurisdiction = here
    site.give(order("aa", 1, mode=Mode.DIRECT, jurisdictions=("EU", "UK")), Behaviour())
    site.run(seconds=60)

    assert (stage(site), condition(site, "Stalled")) == ("Rejected/JurisdictionMismatch", "True")
    assert site.selected == "none"
    assert not [item for item in site.log if "StartFetch" in item or "fetch" in item]


def test_an_order_for_this_jurisdiction_is_obeyed() -> None:
    site = Site()
    site.jurisdiction = "EU"
    site.give(order("aa", 1, mode=Mode.DIRECT, jurisdictions=("EU",)), Behaviour())
    site.run(seconds=60)
    assert (site.selected, stage(site)) == ("aa", "Serving/Serving")


def test_what_serves_goes_on_when_the_site_turns_out_to_be_elsewhere(site: Site) -> None:
    site.jurisdiction = "US"
    site.give(order("aa", 1, mode=Mode.DIRECT, jurisdictions=("EU",)), Behaviour())
    site.run(seconds=60)
    assert (site.selected, stage(site)) == ("aa", "Serving/Serving")
    site.kill_pod("aa")
    site.run(seconds=60)
    assert site.ready("aa")


def test_a_canary_under_way_ends_when_the_site_turns_out_to_be_elsewhere(site: Site) -> None:
    site.jurisdiction = "EU"
    site.give(order("bb", 2, jurisdictions=("EU",)), Behaviour(version=2))
    site.run(until=lambda: bool(site.ready("bb")))
    site.jurisdiction = "US"
    site.run(seconds=120)

    assert (site.selected, stage(site)) == ("aa", "Rejected/JurisdictionMismatch")
    assert not site.live("bb")
    assert site.ready("aa")


def test_going_back_to_what_served_well_here_brings_nothing_and_is_obeyed(site: Site) -> None:
    site.give(order("bb", 2, mode=Mode.DIRECT), Behaviour(version=2))
    site.run()
    assert site.selected == "bb"
    site.jurisdiction = "US"
    back = order("aa", 1, mode=Mode.DIRECT, replaces=digest("bb2"), jurisdictions=("EU",))
    site.give(back, Behaviour(version=1))
    site.run()
    assert site.selected == "aa"
