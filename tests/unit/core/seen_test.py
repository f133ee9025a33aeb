"""What the hub believes of a report: a newer agent's fields are passed over, made-up numbers are not followed."""

from edgefleet.core import parse
from edgefleet.core.seen import ReportSeen


def report(**status: object) -> ReportSeen:
    raw = {"metadata": {"name": "a.b", "namespace": "site-paris"}, "spec": {}, "status": status}
    return parse.deployment(raw).report


def test_fields_of_a_newer_agent_hide_nothing_at_any_depth() -> None:
    refused = {
        "revision": "abc", "attempt": 1, "reason": "LoadFailed", "message": "", "time": "", "hardware": "rpi",
    }  # fmt: skip
    condition = {
        "type": "Ready", "status": "False", "reason": "X", "lastTransitionTime": "", "severity": "high",
    }  # fmt: skip
    seen = report(
        order={"uid": "u", "generation": 3, "epoch": 1},
        refused=[refused],
        conditions=[condition],
        somethingNew=True,
    )
    assert seen.order is not None
    assert (seen.order.uid, seen.order.generation) == ("u", 3)
    assert [(item.revision, item.attempt) for item in seen.refused] == [("abc", 1)]
    assert [item.type for item in seen.conditions] == ["Ready"]
