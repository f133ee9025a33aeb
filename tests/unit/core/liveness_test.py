"""Online, Away, Offline, Unknown: by the age of the last beat, and by the hub's clock alone."""

from datetime import timedelta

import pytest
from edgefleet.core import liveness, parse
from edgefleet.core.statuses import Connectivity
from support.hubs import START, Raw, lease_raw, site_raw

LONG_AGO = START - timedelta(days=30)


def seen(age: float | None, before: str = "", **spec: object) -> Raw:
    """An EdgeSite heard so many seconds ago."""
    raw = site_raw("paris", **spec)
    if before:
        raw["status"]["connectivity"] = before
    return {"raw": raw, "lease": lease_raw(None if age is None else START - timedelta(seconds=age))}


@pytest.mark.parametrize(
    ("age", "uptime", "before", "connectivity"),
    [
        pytest.param(None, 10**6, "", "Unknown", id="never heard"),
        pytest.param(0, 10**6, "", "Online", id="just heard"),
        pytest.param(359, 10**6, "", "Online", id="heard within offlineAfter"),
        pytest.param(360, 10**6, "Online", "Away", id="silent for offlineAfter"),
        pytest.param(7 * 86400 - 1, 10**6, "Away", "Away", id="away as long as that is normal"),
        pytest.param(7 * 86400, 10**6, "Away", "Offline", id="longer than autonomy"),
        pytest.param(3600, 10, "Online", "Online", id="silent while the operator was away"),
        pytest.param(3600, 10, "", "Online", id="silent, and no status was restored"),
        pytest.param(3600, 10, "Away", "Away", id="away before the operator was"),
        pytest.param(8 * 86400, 10, "Away", "Away", id="nobody turns Offline either"),
        pytest.param(3600, 361, "Online", "Away", id="the grace is over"),
        pytest.param(-5, 10**6, "", "Online", id="heard in the future of this replica's clock"),
    ],
)
def test_connectivity(age: float | None, uptime: float, before: str, connectivity: str) -> None:
    given = seen(age, before)
    site = parse.site(given["raw"], given["lease"])
    found = liveness.judge(site, START - timedelta(seconds=uptime), START)
    assert found.connectivity == connectivity


@pytest.mark.parametrize(
    ("age", "uptime", "changes_in"),
    [
        (100, 10**6, 260),
        (3600, 100, 260),
        (360, 10**6, 7 * 86400 - 360),
        (8 * 86400, 10**6, None),
        (None, 1, None),
    ],
)
def test_the_moment_silence_would_change_it_is_known(
    age: float | None, uptime: float, changes_in: float | None
) -> None:
    given = seen(age)
    site = parse.site(given["raw"], given["lease"])
    assert liveness.judge(site, START - timedelta(seconds=uptime), START).changes_in == changes_in


def test_a_sites_own_settings_count() -> None:
    given = seen(31, heartbeat={"interval": "10s", "offlineAfter": "30s"}, autonomy="1h")
    site = parse.site(given["raw"], given["lease"])
    assert liveness.judge(site, LONG_AGO, START).connectivity is Connectivity.AWAY
    assert liveness.answer_within(site) == timedelta(seconds=50)


def test_a_site_whose_spec_cannot_be_read_is_judged_by_the_defaults() -> None:
    given = seen(359, autonomy="ages")
    site = parse.site(given["raw"], given["lease"])
    assert liveness.judge(site, LONG_AGO, START).connectivity is Connectivity.ONLINE


def test_the_sites_clock_shows_only_as_skew() -> None:
    lease = lease_raw(START, START + timedelta(days=365))
    site = parse.site(site_raw("paris"), lease)
    assert liveness.judge(site, LONG_AGO, START).connectivity is Connectivity.ONLINE
    assert liveness.skew(site) == timedelta(days=365)
