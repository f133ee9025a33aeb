"""What a site's namespace on the hub holds, and what its status says."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from edgefleet.core import parse, site_hub_pass, units
from edgefleet.core.decisions import SiteDecision
from edgefleet.core.seen import LeaseSeen, NamespaceSeen, SiteSeen
from edgefleet.core.specs import AgentSpec
from edgefleet.core.statuses import Connectivity
from support.fleet import served
from support.hubs import START, agent_raw, lease_raw, raw, site_raw

KEY, OTHER = "a1" * 32, "b2" * 32
USER = f"edgefleet:site:paris:{KEY[:16]}"
JOINED = NamespaceSeen(ours=True, public_key_sha256=KEY)


@dataclass
class Paris:
    """Everything about site paris, joined unless told otherwise."""

    bound: str = KEY
    namespace: NamespaceSeen | None = JOINED
    user: str = USER
    age: float | None = 10.0
    spec: dict[str, Any] | None = None
    agent: dict[str, Any] | None = None
    status: dict[str, Any] | None = None
    skew: float = 0.0
    gone: bool = False
    with_lease: bool = True

    def seen(self) -> SiteSeen:
        """What the operator sees."""
        site = site_raw("paris", **(self.spec or {}))
        site["status"] |= {"publicKeySHA256": self.bound} if self.bound else {}
        site["status"] |= self.status or {}
        heard = None if self.age is None else START - timedelta(seconds=self.age)
        lease = lease_raw(heard, heard + timedelta(seconds=self.skew) if heard else None)
        agent = agent_raw() if self.agent is None else self.agent
        found = parse.site(site, lease if self.with_lease else None, agent or None)
        return SiteSeen(
            name="paris",
            site=None if self.gone else found,
            namespace=self.namespace,
            binding_user=self.user,
            orders=(),
            operator_started=START - timedelta(days=1),
        )

    def decide(self) -> SiteDecision:
        """What it does about it."""
        return site_hub_pass.decide_site(self.seen(), START)


def condition(decision: SiteDecision, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    assert decision.status is not None
    return next((item.status, item.reason) for item in decision.status.conditions if item.type == kind)


def test_a_site_that_joined_and_knows_its_policy_is_ready() -> None:
    decision = Paris().decide()
    assert condition(decision, "Ready") == ("True", "Joined")
    assert condition(decision, "Available") == ("True", "Online")
    assert condition(decision, "ClockSynced") == ("True", "InSync")
    assert (decision.namespace, decision.binding_user, decision.create_lease, decision.agent) == (
        None,
        None,
        False,
        None,
    )


def test_a_new_site_waits_for_a_token_and_has_nothing_yet() -> None:
    decision = Paris(bound="", namespace=None, user="", age=None, agent={}, with_lease=False).decide()
    assert condition(decision, "Reconciling") == ("True", "WaitingForJoin")
    assert (decision.namespace, decision.binding_user, decision.create_lease, decision.agent) == (
        None,
        None,
        False,
        None,
    )
    assert decision.status is not None
    assert "edgefleet site token paris" in next(
        c.message for c in decision.status.conditions if c.type == "Joined"
    )


def test_a_bound_key_gets_its_namespace_binding_lease_and_policy() -> None:
    decision = Paris(namespace=None, user="", age=None, agent={}, with_lease=False).decide()
    assert (decision.namespace, decision.binding_user, decision.create_lease) == (KEY, USER, True)
    assert decision.agent == AgentSpec(heartbeat_interval="120s", cordoned=False)
    assert condition(decision, "Reconciling") == ("True", "PolicyPending")


def test_a_site_far_away_is_ready_but_not_available() -> None:
    decision = Paris(age=86400).decide()
    assert condition(decision, "Ready") == ("True", "Joined")
    assert condition(decision, "Available") == ("False", "Away")
    assert decision.status is not None
    assert decision.status.connectivity is Connectivity.AWAY


def test_a_changed_heartbeat_goes_down_as_policy() -> None:
    decision = Paris(spec={"heartbeat": {"interval": "30s"}, "cordoned": True}).decide()
    assert decision.agent == AgentSpec(heartbeat_interval="30s", cordoned=True)
    assert condition(decision, "Ready") == ("False", "PolicyPending")


def test_the_namespace_of_somebody_else_is_left_alone() -> None:
    decision = Paris(namespace=NamespaceSeen(ours=False), user="system:admin").decide()
    assert condition(decision, "Stalled") == ("True", "NameTaken")
    assert (decision.namespace, decision.binding_user, decision.create_lease) == (None, None, False)
    assert decision.fingerprint is None


def test_a_deleted_site_is_let_in_no_more_and_its_namespace_stays() -> None:
    decision = Paris(gone=True).decide()
    assert decision.binding_user == ""
    assert (decision.namespace, decision.status) == (None, None)
    again = Paris(gone=True, user="").decide()
    assert again.binding_user is None


def test_the_same_key_in_the_spec_brings_a_deleted_site_back() -> None:
    decision = Paris(bound="", user="", spec={"publicKeySHA256": KEY}).decide()
    assert decision.binding_user == USER
    assert decision.status is not None
    assert decision.status.public_key_sha256 == KEY


def test_a_deleted_site_made_again_without_a_key_needs_a_token() -> None:
    decision = Paris(bound="", user="").decide()
    assert decision.binding_user is None
    assert condition(decision, "Joined") == ("False", "WaitingForJoin")


def test_a_restore_without_statuses_locks_nobody_out() -> None:
    decision = Paris(bound="").decide()
    assert decision.status is not None
    assert decision.status.public_key_sha256 == KEY
    assert condition(decision, "Ready") == ("True", "Joined")


def test_another_key_in_the_spec_replaces_the_binding() -> None:
    decision = Paris(spec={"publicKeySHA256": OTHER}).decide()
    assert decision.binding_user == f"edgefleet:site:paris:{OTHER[:16]}"
    assert decision.namespace == OTHER


def test_a_wrong_clock_is_shown_and_changes_nothing_else() -> None:
    decision = Paris(skew=-3600.0).decide()
    assert condition(decision, "ClockSynced") == ("False", "Skewed")
    assert condition(decision, "Available") == ("True", "Online")


def test_an_invalid_spec_stalls_and_is_named() -> None:
    decision = Paris(spec={"autonomy": "long"}).decide()
    assert condition(decision, "Stalled") == ("True", "InvalidSpec")


@pytest.mark.parametrize(
    ("before", "age", "last_seen"),
    [
        pytest.param({}, 0, "2026-01-31T12:00:00Z", id="the first time"),
        pytest.param(
            {"lastSeen": "2026-01-31T11:50:01Z", "connectivity": "Online"},
            0,
            "2026-01-31T11:50:01Z",
            id="not every beat",
        ),
        pytest.param(
            {"lastSeen": "2026-01-31T11:50:00Z", "connectivity": "Online"},
            0,
            "2026-01-31T12:00:00Z",
            id="every ten minutes",
        ),
        pytest.param(
            {"lastSeen": "2026-01-31T11:53:00Z", "connectivity": "Online"},
            361,
            "2026-01-31T11:53:59Z",
            id="when it goes away",
        ),
    ],
)
def test_last_seen_is_written_seldom(before: dict[str, str], age: float, last_seen: str) -> None:
    decision = Paris(status=before, age=age).decide()
    assert decision.status is not None
    assert decision.status.last_seen == last_seen


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = Paris().decide().status
    again = replace_status(first, START - timedelta(hours=1))
    decision = Paris(status=again, age=86400).decide()
    assert decision.status is not None
    times = {item.type: item.last_transition_time for item in decision.status.conditions}
    assert times["Ready"] == "2026-01-31T11:00:00Z"
    assert times["Available"] == "2026-01-31T12:00:00Z"


def replace_status(status: object, moment: Any) -> dict[str, Any]:
    """A status whose conditions all changed at a moment."""
    found: dict[str, Any] = raw(status)
    for item in found["conditions"]:
        item["lastTransitionTime"] = moment.isoformat().replace("+00:00", "Z")
    return found


def test_the_fingerprint_is_written_when_the_orders_change() -> None:
    seen = Paris().seen()
    first = site_hub_pass.decide_site(seen, START).fingerprint
    assert first
    order = parse.deployment(served("a").hub.orders["a"])
    second = site_hub_pass.decide_site(replace(seen, orders=(order,)), START).fingerprint
    assert second not in (None, first)
    assert seen.site is not None
    assert seen.site.lease is not None
    known = replace(seen, site=replace(seen.site, lease=replace(seen.site.lease, fingerprint=first)))
    assert site_hub_pass.decide_site(known, START).fingerprint is None


def test_models_are_counted_by_reports_on_the_live_orders() -> None:
    fleet = served("a")
    order = parse.deployment(fleet.hub.orders["a"])
    stale = replace(order, meta=replace(order.meta, generation=order.meta.generation + 1))
    for orders, serving in (((order,), 1), ((stale,), 0)):
        status = site_hub_pass.decide_site(replace(Paris().seen(), orders=orders), START).status
        assert status is not None
        assert status.models.serving == serving


def test_the_hub_looks_again_when_silence_would_make_the_site_away() -> None:
    assert Paris(age=100).decide().requeue_after == 260


# -- which beats are worth a pass -----------------------------------------------------------------------


def beat(age: float, skew: float = 0.0, mark: str = "") -> LeaseSeen:
    """A Lease whose last beat came so many seconds ago."""
    heard = START - timedelta(seconds=age)
    return LeaseSeen(heard=heard, renewed=heard + timedelta(seconds=skew), fingerprint=mark)


def known(connectivity: str = "Online", seen: float = 130.0) -> Any:
    """Paris with what its status says."""
    last = units.timestamp(START - timedelta(seconds=seen))
    return Paris(status={"connectivity": connectivity, "lastSeen": last}).seen().site


def test_one_more_beat_of_a_site_that_is_online_is_worth_no_pass() -> None:
    assert site_hub_pass.one_more_beat(known(), beat(120), beat(0))


@pytest.mark.parametrize(
    ("site", "before", "after"),
    [
        pytest.param(None, beat(120), beat(0), id="of a site not seen yet"),
        pytest.param(known(), None, beat(0), id="with a new Lease"),
        pytest.param(known(), LeaseSeen(heard=None), beat(0), id="the first"),
        pytest.param(known("Away"), beat(120), beat(0), id="of one that was away"),
        pytest.param(known(seen=601), beat(120), beat(0), id="when lastSeen is old"),
        pytest.param(known(), beat(120), beat(0, mark="other"), id="with another fingerprint"),
        pytest.param(known(), beat(120), beat(0, skew=900), id="of a clock that has jumped"),
        pytest.param(known(), beat(120, skew=900), beat(0), id="of a clock that was set"),
    ],
)
def test_a_beat_that_may_change_something_is_worth_one(
    site: Any, before: LeaseSeen | None, after: LeaseSeen | None
) -> None:
    assert not site_hub_pass.one_more_beat(site, before, after)
