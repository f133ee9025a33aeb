"""Sites with lease and agent are put together once, and again when one of the three has changed."""

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
