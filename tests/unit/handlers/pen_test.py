"""Which differences of a status may wait a few seconds, and which may not."""

from typing import Any

import pytest
from edgefleet.core.statuses import ModelStatus, WaveStatus
from edgefleet.handlers.pen import figures_only, to_raw

LIVE: dict[str, Any] = {
    "outcome": "",
    "counts": {"healthy": 1},
    "waves": [{"name": "lab", "limit": 2, "admitted": 2, "healthy": 1, "failed": 0}],
    "lastSeen": "2026-01-01T00:00:00Z",
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "WaveRunning", "message": "1 of 2 healthy"}
    ],
}
WAIT: dict[str, dict[str, Any]] = {
    "nothing": {},
    "counts": {"counts": {"healthy": 2}},
    "when it was last seen": {"lastSeen": "2026-01-01T00:10:00Z"},
    "words that count": {"conditions": [{**LIVE["conditions"][0], "message": "2 of 2 healthy"}]},
    "healthy sites of a wave": {"waves": [{**LIVE["waves"][0], "healthy": 2}]},
}
NOW: dict[str, dict[str, Any]] = {
    "an outcome": {"outcome": "RolledBack"},
    "a site that was admitted": {"waves": [{**LIVE["waves"][0], "admitted": 3}]},
    "a site that failed": {"waves": [{**LIVE["waves"][0], "failed": 1}]},
    "a wave that starts": {"waves": [*LIVE["waves"], {"name": "rest", "limit": 5}]},
    "a wave that soaks": {"waves": [{**LIVE["waves"][0], "soakStartedAt": "2026-01-01T00:00:00Z"}]},
    "a failure": {"failures": [{"site": "paris"}]},
    "a reason": {"conditions": [{**LIVE["conditions"][0], "reason": "Soaking"}]},
    "another condition": {"conditions": []},
    "a figure and an outcome": {"counts": {"healthy": 2}, "outcome": "Complete"},
}


@pytest.mark.parametrize("change", WAIT.values(), ids=WAIT.keys())
def test_figures_alone_may_wait(change: dict[str, Any]) -> None:
    assert figures_only(LIVE, {**LIVE, **change})


@pytest.mark.parametrize("change", NOW.values(), ids=NOW.keys())
def test_what_a_restart_must_not_lose_is_written_at_once(change: dict[str, Any]) -> None:
    assert not figures_only(LIVE, {**LIVE, **change})


def test_a_field_that_goes_is_written_at_once_and_figures_that_go_may_wait() -> None:
    without = {key: value for key, value in LIVE.items() if key != "waves"}
    assert not figures_only(LIVE, without)
    assert figures_only(LIVE, {key: value for key, value in LIVE.items() if key != "counts"})


def test_fields_that_are_none_are_left_out_also_inside_lists() -> None:
    wave = WaveStatus(name="lab", limit=1)
    raw = to_raw((wave, ModelStatus()))
    assert "startedAt" not in raw[0]
    assert raw[0]["limit"] == 1
    assert raw[1]["observedGeneration"] == -1
