"""Sites with lease and agent are put together once, and again when one of the three or a window has changed."""

from datetime import timedelta
from typing import Any, cast

import pytest
from edgefleet.core import names
from edgefleet.handlers.gather import Changed, Seen
from edgefleet.kube import watching
from support.hubs import START, agent_raw, lease_raw, site_raw

PLACE = names.site_namespace("paris")


@pytest.fixture
def seen() -> Seen:
    def quiet(*_: Any) -> None:
        pass

    return Seen(cast(Any, None), Changed(quiet, quiet, quiet, quiet, quiet))


NIGHT = {"schedule": "0 3 * * *", "duration": "2h", "timeZone": "UTC"}


def in_place(raw: dict[str, Any], version: int) -> dict[str, Any]:
    raw["metadata"] |= {"namespace": PLACE, "uid": "u", "resourceVersion": str(version)}
    return raw


def test_a_site_is_seen_with_its_latest_lease_and_agent(seen: Seen) -> None:
    seen.sites.put(site_raw("paris"))
    assert seen.all_sites()[0].lease is None

    seen.leases.put(in_place(lease_raw(START), 1))
    seen.agents.put(in_place(agent_raw(), 1))
    first = seen.all_sites()[0]
    assert first.lease is not None and first.lease.heard == START
    assert first.agent is not None
    assert seen.all_sites()[0] is first, "nothing has changed"

    seen.leases.put(in_place(lease_raw(START + timedelta(minutes=2)), 2))
    later = seen.site("paris")
    assert later is not None and later.lease is not None
    assert later.lease.heard == START + timedelta(minutes=2)

    seen.agents.sink(watching.DELETED, in_place(agent_raw(), 3))
    assert seen.all_sites()[0].agent is None

    relabelled = site_raw("paris", {"country": "fr"})
    relabelled["metadata"]["resourceVersion"] = "9"
    seen.sites.put(relabelled)
    assert seen.all_sites()[0].meta.labels == {"country": "fr"}
    assert seen.all_sites()[0].lease == later.lease


def test_a_site_with_windows_is_put_together_again_only_when_one_opens_or_closes(seen: Seen) -> None:
    raw = in_place(agent_raw(), 1)
    raw["spec"]["windows"] = {"update": [NIGHT]}
    seen.sites.put(site_raw("paris"))
    seen.agents.put(raw)
    found = []
    for hour in (12, 13, 26, 27.5, 28, 29):
        moment = START.replace(hour=0) + timedelta(hours=hour)
        seen._now = lambda moment=moment: moment  # type: ignore[misc]
        found.append(seen.all_sites()[0])
    noon, later, night, opened, still, closed = found
    assert noon is later is night, "the same window is closed"
    assert not noon.windows.update.open
    assert opened is still and opened.windows.update.open
    assert not closed.windows.update.open
