"""What raw objects say of a fleet, read by other means than the hub's own decisions."""

from collections.abc import Mapping

from edgefleet.core import liveness, parse
from edgefleet.core.seen import RolloutObject
from edgefleet.core.statuses import Connectivity, Outcome, RolloutStatus
from support.hubs import Hub, Raw


def banned(rollouts: list[RolloutObject], statuses: Mapping[str, RolloutStatus]) -> set[tuple[str, int]]:
    """Revisions with the attempts at which they may not be run; `statuses` are newer than those of the rollouts."""
    found = set()
    for item in rollouts:
        status = statuses.get(item.meta.name, item.status)
        if status.outcome in (Outcome.ROLLED_BACK, Outcome.ABORTED) or item.spec.desired.value == "Aborted":
            found |= {(item.spec.revision, attempt) for attempt in range(1, item.spec.attempt + 1)}
    return found


def online(hub: Hub, name: str) -> bool:
    """Whether a site is heard."""
    site = parse.site(hub.sites[name], hub.leases.get(name), hub.agents.get(name))
    return liveness.judge(site, hub.started, hub.now).connectivity is Connectivity.ONLINE


def matching(raw: Raw) -> bool:
    """Whether an order's report answers the order as it stands."""
    head = raw["metadata"]
    return bool(raw["status"].get("order") == {"uid": head["uid"], "generation": head["generation"]})


def healthy(raw: Raw) -> bool:
    """Whether an order's report answers it and says that its revision serves."""
    said = raw["status"]
    return (
        matching(raw)
        and (said.get("stage"), said.get("reason")) == ("Serving", "Serving")
        and said["activeRevision"] == raw["spec"]["revision"]
    )


def set_aside(site: Raw) -> bool:
    """By a person or by the operator."""
    return bool(site["spec"].get("cordoned")) or "quarantine" in site["status"]


def placed(hub: Hub, name: str) -> bool:
    """Whether the model is to run at a site."""
    if hub.model is None:
        return False
    expressions = hub.model["spec"]["placement"]["siteSelector"].get("matchExpressions", ())
    ring = hub.sites[name]["metadata"]["labels"].get("ring")
    allowed = hub.model["spec"]["placement"].get("jurisdictions", ())
    here = hub.sites[name]["spec"].get("jurisdiction", "")
    return all(ring in item["values"] for item in expressions) and (not allowed or here in allowed)


def unfit(hub: Hub, name: str) -> bool:
    """Whether a site is known to lack a feature that each variant needs."""
    have = hub.agents[name]["status"].get("inventory", {}).get("cpuFeatures", ())
    return bool(have) and bool(hub.needs) and all(set(item.cpu_features) - set(have) for item in hub.needs)


def not_healthy(hub: Hub) -> list[str]:
    """Sites that are to have the model and cannot be said to serve it; none while the spec cannot be read."""
    spec = hub.model["spec"] if hub.model is not None else {}
    if not spec or not isinstance(spec.get("serving", {}).get("replicas", 1), int):
        return []
    return [
        name
        for name, site in hub.sites.items()
        if placed(hub, name)
        and not set_aside(site)
        and not unfit(hub, name)
        and not (name in hub.orders and healthy(hub.orders[name]))
    ]


def leaving(hub: Hub) -> list[str]:
    """Sites that can be told something, serve what is banned, and are on their way to what is no trial."""
    rollouts = [item for raw in hub.rollouts.values() if (item := parse.rollout(raw)) is not None]
    gone = banned(rollouts, {})
    last = {item.spec.revision: item.spec.attempt for item in sorted(rollouts, key=lambda it: it.spec.number)}
    bad = {revision for revision, attempt in last.items() if (revision, attempt) in gone}
    running = {name for name, raw in hub.rollouts.items() if not raw["status"].get("outcome")}
    return [
        name
        for name in not_healthy(hub)
        if name in hub.orders
        and hub.orders[name]["spec"]["state"] == "Run"
        and hub.orders[name]["spec"]["rollout"] not in running
        and hub.orders[name]["spec"]["revision"] not in bad
        and hub.orders[name]["status"].get("activeRevision") in bad
    ]
