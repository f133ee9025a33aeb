"""Which reports are sent, what a lease is worth, what the agent's settings must be."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgefleet.agent import reports, traffic
from edgefleet.agent.orders import read_order, with_order
from edgefleet.agent.settings import SettingsError, read
from edgefleet.core.local_record import Record
from edgefleet.core.order import CanaryProgress, Download, OrderIdentity, Report, Stage, Traffic, to_wire
from edgepod.contract import NO_CANARY, TrafficLease
from support.site import order

SERVING = Report(stage=Stage.SERVING, reason="Serving", traffic=Traffic(requests=10))
CANARY = Report(
    stage=Stage.CANARY,
    reason="Step",
    message="10 requests",
    canary=CanaryProgress(step=0, steps=3, weight=10),
)

ROWS = [
    ("the first report", None, SERVING, 0, True),
    ("the same again", SERVING, SERVING, 5000, False),
    ("more traffic, a minute later", SERVING, msgspec.structs.replace(SERVING, traffic=Traffic(requests=99)), 60, False),
    ("more traffic, an hour and a half later", SERVING, msgspec.structs.replace(SERVING, traffic=Traffic(requests=99)), 5400, True),
    ("another stage", SERVING, CANARY, 0, True),
    ("more requests of a canary step", CANARY, msgspec.structs.replace(CANARY, message="20 requests", canary=CanaryProgress(step=0, steps=3, weight=10, requests=20)), 5, False),
    ("the next canary step", CANARY, msgspec.structs.replace(CANARY, canary=CanaryProgress(step=1, steps=3, weight=50)), 5, True),
    ("another reason", SERVING, msgspec.structs.replace(SERVING, reason="NotReady"), 1, True),
    ("another message of something blocked", msgspec.structs.replace(SERVING, stage=Stage.BLOCKED, message="a"), msgspec.structs.replace(SERVING, stage=Stage.BLOCKED, message="b"), 1, True),
    ("more bytes of a download", msgspec.structs.replace(SERVING, stage=Stage.DOWNLOADING, download=Download(done=1, total=9)), msgspec.structs.replace(SERVING, stage=Stage.DOWNLOADING, download=Download(done=5, total=9)), 1, False),
    ("another generation of the order", SERVING, msgspec.structs.replace(SERVING, order=OrderIdentity(uid="u", generation=2)), 1, True),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now", "after", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])  # fmt: skip
def test_a_report_is_sent(before: Report | None, now: Report, after: float, expected: bool) -> None:
    sent = None if before is None else reports.sent(before, 1000.0)
    assert reports.due(now, sent, 1000.0 + after) is expected


def test_a_lease_ends_when_its_passes_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(traffic.time, "monotonic", lambda: clock[0])
    leases, lease = traffic.Leases(), TrafficLease(step="s", canary="http://10.0.0.1:80", weight=10)
    leases.put("team.digits", (("team-digits-aa", lease),))
    assert leases.get("team-digits-aa") == lease
    assert leases.get("team-digits-bb") == NO_CANARY
    clock[0] += traffic.LEASE_FRESH + 0.1
    assert leases.get("team-digits-aa") == NO_CANARY


def test_a_pass_without_a_lease_ends_the_one_before_and_no_other_model_s() -> None:
    leases, lease = traffic.Leases(), TrafficLease(step="s", canary="http://10.0.0.1:80", weight=10)
    leases.put("team.digits", (("team-digits-aa", lease),))
    leases.put("team.letters", (("team-letters-aa", lease),))
    leases.put("team.digits", ())
    assert leases.get("team-digits-aa") == NO_CANARY
    assert leases.get("team-letters-aa") == lease


# -- orders ----------------------------------------------------------------------------------------------
ORDER = to_wire(order("0123456789"))
UNREADABLE: list[tuple[str, dict[str, Any], str]] = [
    ("a gate this agent does not know", {"canary": {"gates": {"minRecall": "90%"}}}, "minRecall"),
    ("a field this agent does not know", {"quorum": 3}, "quorum"),
    ("an order version of tomorrow", {"orderVersion": 2}, "order version 2"),
    ("an unknown state", {"state": "Hibernate"}, "Hibernate"),
    ("another model's name", {"model": {"namespace": "team", "name": "letters"}}, "team.letters"),
]


@pytest.mark.parametrize(
    ("change", "named"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE]
)
def test_an_order_is_not_obeyed_in_part(change: dict[str, Any], named: str) -> None:
    read_back, error = read_order("team.digits", {**ORDER, **change})
    assert read_back is None
    assert named in error


def test_a_good_order_is_read() -> None:
    read_back, error = read_order("team.digits", ORDER)
    assert (read_back, error) == (order("0123456789"), "")


def test_a_new_order_wakes_a_finished_model_and_the_same_one_does_not() -> None:
    identity = OrderIdentity(uid="u", generation=1)
    done = Record(spec=ORDER, identity=identity, finished="Removed")
    assert with_order(done, ORDER, identity) is done
    assert with_order(done, {**ORDER, "attempt": 2}, OrderIdentity(uid="u", generation=2)).finished == ""
    assert with_order(done, ORDER, OrderIdentity(uid="v", generation=1)).finished == "Removed"


# -- settings ----------------------------------------------------------------------------------------------
@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    from support.bundles import ALICE

    (tmp_path / "release.pem").write_bytes(ALICE.public)
    (tmp_path / "ca.crt").write_text("a certificate")
    return {
        "EDGEFLEET_TRUST": str(tmp_path / "release.pem"),
        "EDGEFLEET_HUB_SERVER": "https://hub:6443",
        "EDGEFLEET_HUB_CA": str(tmp_path / "ca.crt"),
        "EDGEFLEET_SITE": "paris",
    }


def test_good_settings_are_read(environment: dict[str, str]) -> None:
    settings = read([], environment)
    assert settings.hub is not None
    assert (settings.hub.site, settings.port, settings.place.namespace) == ("paris", 8081, "edgefleet-models")


def test_no_hub_is_a_box_of_its_own(environment: dict[str, str]) -> None:
    assert read([], {**environment, "EDGEFLEET_HUB_SERVER": ""}).hub is None


BAD = [
    ("EDGEFLEET_TRUST", ""),
    ("EDGEFLEET_TRUST", "/nowhere"),
    ("EDGEFLEET_HUB_SERVER", "http://hub"),
    ("EDGEFLEET_HUB_CA", "/nowhere"),
    ("EDGEFLEET_SITE", ""),
    ("EDGEFLEET_SITE", "Paris"),
    ("EDGEFLEET_DOCKER_CONFIG", "/nowhere"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_setting_is_named(environment: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read([], {**environment, name: value})
