"""Windows of sites as the operator goes by them, on a real API server. They are six hours away, or not there."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.client import Object
from support.cluster import condition, eventually
from support.hub import Fleet, Shelf

pytestmark = pytest.mark.cluster


def away() -> list[Object]:
    opens = datetime.now(UTC) + timedelta(hours=6)
    return [{"schedule": f"{opens.minute} {opens.hour} * * *", "duration": "1h", "timeZone": "UTC"}]


async def edit(fleet: Fleet, short: str, **spec: Any) -> None:
    await fleet.api.merge_patch(kinds.EDGE_SITE, None, fleet.name(short), {"spec": spec})


async def policy(fleet: Fleet, short: str) -> Object:
    namespace = names.site_namespace(fleet.name(short))
    spec: Object = (await fleet.api.get(kinds.EDGE_AGENT, namespace, names.AGENT))["spec"]
    return spec


async def says(fleet: Fleet, short: str, kind: str, reason: str) -> Object:
    """Wait for a condition of an EdgeSite."""

    async def said() -> Object | None:
        found = condition(await fleet.api.get(kinds.EDGE_SITE, None, fleet.name(short)), kind)
        return found if (found.get("status"), found.get("reason")) == ("True", reason) else None

    found: Object = await eventually(said, f"{short} is {kind} {reason}", seconds=40)
    return found


async def test_a_site_is_offered_nothing_while_it_could_not_fetch_it_and_at_once_when_its_windows_change(
    fleet: Fleet, shelf: Shelf
) -> None:
    windows = {"download": away()}
    await fleet.join("paris", windows=windows, bandwidth={"limit": "2Mi"})
    await fleet.join("rome")
    given = await policy(fleet, "paris")
    assert (given["windows"]["download"], given["bandwidthLimit"]) == (windows["download"], "2Mi")
    assert "windows" not in await policy(fleet, "rome")
    bundle = await shelf.bundle()
    await fleet.apply("digits", bundle)
    await fleet.offered("rome", "digits", bundle)

    async def told() -> bool:
        text = condition(await fleet.model("digits"), "Ready").get("message", "")
        return "1 waiting for its window, the next opens at 20" in text

    await eventually(told, "the wave says who waits", seconds=40)
    await asyncio.sleep(2.5)  # two passes and a half
    assert await fleet.order("paris", "digits") is None

    await edit(fleet, "paris", windows=None, bandwidth=None)
    await fleet.offered("paris", "digits", bundle)
    await fleet.ready("digits", seconds=40)
    assert not {"windows", "bandwidthLimit"} & set(await policy(fleet, "paris"))


async def test_windows_that_cannot_be_read_are_said_with_their_field_and_change_nothing_at_the_site(
    fleet: Fleet,
) -> None:
    windows = {"update": away()}
    agent = await fleet.join("paris", windows=windows)
    found = await says(fleet, "paris", "Stalled", "AgentTooOld")
    assert "upgrade it" in found["message"], "the simulated agent says nothing of windows"
    before = await policy(fleet, "paris")

    bad = [{"schedule": "0 0 30 2 *", "duration": "1h", "timeZone": "Europe/Paris"}]
    await edit(fleet, "paris", windows={"download": bad})
    found = await says(fleet, "paris", "Stalled", "InvalidSpec")
    assert found["message"] == (
        "spec.windows.download[0].schedule: '0 0 30 2 *' is no schedule: bad day-of-month"
    )
    assert await policy(fleet, "paris") == before

    await edit(fleet, "paris", windows={"download": None})
    await says(fleet, "paris", "Stalled", "AgentTooOld")
    assert (await policy(fleet, "paris"))["windows"]["update"] == windows["update"]
    assert agent.policy_generation > 0
