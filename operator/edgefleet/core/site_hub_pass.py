"""The door of the hub's decisions about one EdgeSite: what its namespace holds, and what its status says."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from edgefleet.core import conditions, flapping, joining, liveness, names, quarantine, units, verdict
from edgefleet.core.conditions import FALSE, TRUE, UNKNOWN, State
from edgefleet.core.decisions import SiteDecision
from edgefleet.core.fingerprint import fingerprint
from edgefleet.core.liveness import Liveness
from edgefleet.core.order import Order, Stage
from edgefleet.core.seen import AgentObject, LeaseSeen, OrderObject, SiteObject, SiteSeen, SpecError
from edgefleet.core.specs import AgentSpec
from edgefleet.core.statuses import Connectivity, SiteModels, SiteStatus

LAST_SEEN_EVERY: Final = timedelta(minutes=10)
"""`lastSeen` is a date whose age grows by itself; writing every beat down would be most of the hub's writes."""
_NOISE: Final = timedelta(seconds=5)
"""What a skew changes by from beat to beat, because times are whole seconds and links are slow: nothing to write down."""
JOINED: Final = "Joined"
AVAILABLE: Final = "Available"
CLOCK_SYNCED: Final = "ClockSynced"
QUARANTINED: Final = "Quarantined"
_FAILED: Final = (Stage.ROLLED_BACK, Stage.REJECTED)


def decide_site(seen: SiteSeen, now: datetime) -> SiteDecision:
    """What to do about an EdgeSite and the objects in its namespace. `now` is the hub's clock, with its zone."""
    if seen.site is None:
        return _released(seen)
    alive = liveness.judge(seen.site, seen.operator_started, now)
    key = _key(seen, seen.site)
    usable = bool(key) and not _taken(seen)
    user = names.site_user(seen.name, key) if usable else ""
    annotated = seen.namespace is not None and seen.namespace.public_key_sha256 == key
    return SiteDecision(
        namespace=key if usable and not annotated else None,
        binding_user=user if usable and user != seen.binding_user else None,
        create_lease=usable and seen.site.lease is None,
        agent=_agent(seen.site) if usable else None,
        fingerprint=_fingerprint(seen, seen.site),
        status=_status(seen, seen.site, alive, key, now),
        requeue_after=alive.changes_in,
    )


def one_more_beat(site: SiteObject | None, before: LeaseSeen | None, after: LeaseSeen | None) -> bool:
    """Whether a Lease has changed by a beat that moves nothing of its site, so that it is worth no pass.

    Silence is no matter here: the last pass asked to be called again when it would count.
    """
    if site is None or before is None or after is None or before.heard is None or after.heard is None:
        return False
    seen = site.status.last_seen
    known = site.status.connectivity is Connectivity.ONLINE and seen is not None
    recent = seen is not None and after.heard - units.instant(seen) < LAST_SEEN_EVERY
    return (
        known and recent and before.fingerprint == after.fingerprint and _in_sync(before) is _in_sync(after)
    )


def _in_sync(lease: LeaseSeen) -> bool:
    skew = liveness.skew_of(lease)
    return skew is not None and abs(skew) <= liveness.MAX_SKEW


def _released(seen: SiteSeen) -> SiteDecision:
    """A deleted EdgeSite: its key is let in no more; the namespace stays, so that the same box can come back."""
    ours = seen.namespace is not None and seen.namespace.ours
    return SiteDecision(
        namespace=None,
        binding_user="" if ours and seen.binding_user else None,
        create_lease=False,
        agent=None,
        fingerprint=None,
        status=None,
    )


def _taken(seen: SiteSeen) -> bool:
    return seen.namespace is not None and not seen.namespace.ours


def _key(seen: SiteSeen, site: SiteObject) -> str:
    """The bound key. What the namespace says counts only with a binding: restored from a backup without statuses."""
    key = joining.bound_key(site)
    if key or seen.namespace is None or not seen.namespace.ours:
        return key
    known = seen.namespace.public_key_sha256
    return known if known and seen.binding_user == names.site_user(seen.name, known) else ""


def _agent(site: SiteObject) -> AgentSpec | None:
    """The policy to deliver, if it is not what is there. With a spec that cannot be read the one that is there stays."""
    spec = site.spec
    if isinstance(spec, SpecError):
        return None
    wanted = AgentSpec(
        heartbeat_interval=spec.heartbeat.interval,
        cordoned=spec.cordoned,
        jurisdiction=spec.jurisdiction or None,
        windows=spec.windows if spec.windows.download or spec.windows.update else None,
        bandwidth_limit=spec.bandwidth.limit or None,
    )
    return wanted if site.agent is None or site.agent.spec != wanted else None


def _fingerprint(seen: SiteSeen, site: SiteObject) -> str | None:
    if site.lease is None or site.agent is None or _taken(seen):
        return None
    wanted = fingerprint((order.meta for order in seen.orders), site.agent.meta.generation)
    return wanted if wanted != site.lease.fingerprint else None


# -- status -------------------------------------------------------------------------------------------


def _status(seen: SiteSeen, site: SiteObject, alive: Liveness, key: str, now: datetime) -> SiteStatus:
    agent = site.agent.status if site.agent is not None else None
    states = {
        **_progress(seen, site, key),
        JOINED: _joined(seen, key),
        AVAILABLE: _available(alive.connectivity, site),
        CLOCK_SYNCED: _clock(site),
        QUARANTINED: _quarantined(seen, site),
    }
    return SiteStatus(
        observed_generation=site.meta.generation,
        conditions=conditions.build(states, site.status.conditions, site.meta.generation, now),
        connectivity=alive.connectivity,
        last_seen=_last_seen(site, alive.connectivity),
        public_key_sha256=key or None,
        agent_version=agent.agent_version if agent else "",
        kubernetes_version=agent.kubernetes_version if agent else "",
        inventory=agent.inventory if agent else None,
        models=_models(seen.orders),
        quarantine=site.status.quarantine,
        released_at=site.status.released_at,
        flaps=flapping.remember(site, alive.connectivity, seen.orders, now) or None,
    )


def _progress(seen: SiteSeen, site: SiteObject, key: str) -> dict[str, State]:
    """Ready means joined and policy delivered; whether the site is heard is said by Available alone."""
    if isinstance(site.spec, SpecError):
        return conditions.stalled("InvalidSpec", site.spec.message)
    if _taken(seen):
        return conditions.stalled("NameTaken", _taken_message(seen))
    if not key:
        return conditions.reconciling("WaitingForJoin", _join_message(seen))
    agent = site.agent
    if agent is None or agent.status.observed_generation != agent.meta.generation or _agent(site) is not None:
        return conditions.reconciling(
            "PolicyPending", "the site has not yet confirmed its policy (EdgeAgent)"
        )
    if _windows_unknown(agent):
        text = "the site's agent knows neither windows nor limits and downloads and installs at any time: upgrade it"
        return conditions.stalled("AgentTooOld", text)
    return conditions.ready("Joined", "joined, and its policy is delivered")


def _windows_unknown(agent: AgentObject) -> bool:
    """Whether an agent was given a policy that it says nothing of."""
    spec = agent.spec
    given = spec is not None and (spec.windows is not None or spec.bandwidth_limit is not None)
    return given and agent.status.windows is None


def _joined(seen: SiteSeen, key: str) -> State:
    if _taken(seen):
        return (FALSE, "NameTaken", _taken_message(seen))
    if not key:
        return (FALSE, "WaitingForJoin", _join_message(seen))
    return (TRUE, "KeyBound", f"bound to the key {key[:16]}")


def _available(connectivity: Connectivity, site: SiteObject) -> State:
    match connectivity:
        case Connectivity.ONLINE:
            return (TRUE, "Online", "")
        case Connectivity.UNKNOWN:
            return (UNKNOWN, "NeverHeard", "the agent has not sent a beat yet")
        case Connectivity.AWAY | Connectivity.OFFLINE:
            spec = liveness.spec_of(site)
            heard = site.lease.heard if site.lease is not None else None
            text = f"last heard {units.timestamp(heard)}; " if heard is not None else ""
            return (FALSE, connectivity.value, f"{text}being away is normal for {spec.autonomy}")


def _clock(site: SiteObject) -> State:
    skew = liveness.skew(site)
    if skew is None:
        return (UNKNOWN, "NeverHeard", "the agent has not sent a beat yet")
    if abs(skew) <= liveness.MAX_SKEW:
        return (TRUE, "InSync", "")
    known = next((item.message for item in site.status.conditions if item.type == CLOCK_SYNCED), "")
    texts = [_skewed(skew + by) for by in (timedelta(0), -_NOISE, _NOISE)]
    return (FALSE, "Skewed", known if known in texts else texts[0])


def _skewed(skew: timedelta) -> str:
    minutes = round(skew.total_seconds() / 60)
    return f"the site's clock is {minutes:+d} min off the hub's: set it (NTP)"


def _quarantined(seen: SiteSeen, site: SiteObject) -> State:
    """What the fleet's pass has decided about the site; here it is only told."""
    held = site.status.quarantine
    if held is not None:
        text = f"{held.message}; no offers until {held.until} or `edgefleet site release {seen.name}`"
        return (TRUE, held.reason, text)
    if seen.kept_out is None:
        known = next((item for item in site.status.conditions if item.type == QUARANTINED), None)
        if known is not None and known.reason == quarantine.FULL:
            return (FALSE, known.reason, known.message)
    return (FALSE, quarantine.FULL, seen.kept_out) if seen.kept_out else (FALSE, quarantine.NONE, "")


def _last_seen(site: SiteObject, connectivity: Connectivity) -> str | None:
    heard, before = site.lease.heard if site.lease is not None else None, site.status.last_seen
    if heard is None:
        return before
    recent = before is not None and heard - units.instant(before) < LAST_SEEN_EVERY
    return before if recent and connectivity is site.status.connectivity else units.timestamp(heard)


def _models(orders: tuple[OrderObject, ...]) -> SiteModels:
    """What the reports say of the live orders, whenever they were made: their age is `lastSeen`."""
    tally: Counter[str] = Counter()
    for item in orders:
        said, order = item.report.order, item.order
        if not isinstance(order, Order) or said is None:
            continue
        if (said.uid, said.generation) != (item.meta.uid, item.meta.generation):
            continue
        tally["serving"] += verdict.serves(item.report, order.revision)
        tally["failed"] += item.report.stage in _FAILED
        tally["blocked"] += item.report.stage == Stage.BLOCKED
    return SiteModels(**tally)


def _taken_message(seen: SiteSeen) -> str:
    return (
        f"namespace {names.site_namespace(seen.name)} exists and is not labelled {names.SITE}={seen.name}: "
        "rename the site, or remove the namespace"
    )


def _join_message(seen: SiteSeen) -> str:
    return f"run `edgefleet site token {seen.name}` and install the agent with it"
