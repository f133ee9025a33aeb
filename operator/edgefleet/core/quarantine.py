"""Which sites are set aside: those that fail with revisions that are good elsewhere, and those that come and go.

Decided for the whole fleet at once, because no more than a share of it may be set aside. What is decided is
remembered in `EdgeSite.status` alone. Times are the hub's; what lies in its future (its clock was set back) is no
evidence.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from edgefleet.core import joining, liveness, names, units
from edgefleet.core.seen import RolloutObject, SiteObject
from edgefleet.core.specs import Desired
from edgefleet.core.statuses import Outcome, Quarantine

FAILURES: Final = "RepeatedFailures"
FLAPPING: Final = "Flapping"
CRASHING: Final = "CrashLooping"
FULL: Final = "QuarantineFull"
NONE: Final = "NotQuarantined"
CONNECTIVITY: Final = "Connectivity"
"""What an entry of `status.flaps` is about, when it is no model."""
NAMED: Final = 3
"""Refused revisions a message names."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When a site is set aside and for how long. The operator's own, from its chart's values."""

    failures: int = 3
    """Distinct (model, revision, attempt) a site may not refuse within `within`."""
    within: timedelta = timedelta(hours=24)
    flaps: int = 6
    """Changes between Online and not, or of a promoted revision between ready and crashed, within `flaps_within`."""
    flaps_within: timedelta = timedelta(hours=1)
    release_after: timedelta = timedelta(hours=24)
    max_share: str = "10%"
    """Of the joined sites, and always one. `0%`: nobody is set aside."""


@dataclass(frozen=True, slots=True)
class Refused:
    """That a site refused a revision, as the hub learnt of it."""

    site: str
    model: str
    """`<namespace>.<name>`"""
    revision: str
    attempt: int
    reason: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rollouts of one model say about sites."""

    refused: tuple[Refused, ...] = ()
    good: frozenset[str] = frozenset()
    """`<namespace>.<name>/<revision>` of the revisions that are good elsewhere."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a site is to be set aside, and since when that is known."""

    reason: str
    message: str
    due: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What to write to one site. `quarantine` None: it is released; `released`: evidence up to then is forgotten."""

    site: SiteObject
    quarantine: Quarantine | None
    released: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Who is released, then who is set aside: in this order there are never too many."""

    releases: tuple[Change, ...] = ()
    admissions: tuple[Change, ...] = ()
    kept_out: Mapping[str, str] = field(default_factory=dict)
    """Sites that would be set aside but for the share, and the message that says so."""
    requeue_after: float | None = None


# -- evidence -----------------------------------------------------------------------------------------


def evidence(namespace: str, name: str, rollouts: Iterable[RolloutObject]) -> Evidence:
    """Collect what a model's rollouts say about sites."""
    model, refused, good = names.order_name(namespace, name), [], set()
    for item in rollouts:
        if not good_elsewhere(item):
            continue
        good.add(f"{model}/{item.spec.revision}")
        held = {hold.cohort for hold in item.status.holds}
        refused += [
            Refused(
                site=failure.site,
                model=model,
                revision=item.spec.revision,
                attempt=item.spec.attempt,
                reason=failure.reason,
                time=units.instant(failure.time),
            )
            for failure in item.status.failures
            if held.isdisjoint(failure.cohorts)  # the revision fails on its kind of site
        ]
    return Evidence(tuple(refused), frozenset(good))


def good_elsewhere(rollout: RolloutObject) -> bool:
    """Whether a refusal of this attempt says something against the site rather than against the revision."""
    if rollout.spec.desired is Desired.ABORTED or rollout.status.outcome is Outcome.ABORTED:
        return False  # a person has taken it back
    counts = rollout.status.counts
    return rollout.status.outcome is Outcome.COMPLETE or counts.healthy > counts.failed


# -- the fleet ----------------------------------------------------------------------------------------


def decide(sites: Iterable[SiteObject], found: Iterable[Evidence], policy: Policy, now: datetime) -> Decision:
    """Who is set aside. Whoever is stays until his time is over; then it is first come, first served."""
    joined = sorted(
        (site for site in sites if joining.bound_key(site) and not site.meta.deleting),
        key=lambda site: site.meta.name,
    )
    room = capacity(policy, len(joined))
    fleet = _Fleet(found, policy, now)
    releases: list[Change] = []
    staying: list[tuple[datetime, SiteObject, Quarantine]] = []
    wanted: list[tuple[datetime, SiteObject, Verdict]] = []
    for site in joined:
        held = site.status.quarantine
        released = _let_go(site, held, room, now) if held is not None else None
        if held is not None and released is not None:
            releases.append(Change(site, None, released))
        elif held is not None:
            staying.append((units.instant(held.since), site, held))
        elif _forgiven_ahead(site, now):
            releases.append(Change(site, None, units.timestamp(now)))
        elif room and (verdict := fleet.judge(site)) is not None:
            wanted.append((verdict.due, site, verdict))
    staying.sort(key=lambda item: (item[0], item[1].meta.name))
    wanted.sort(key=lambda item: (item[0], item[1].meta.name))
    # sites have left the fleet since: whoever came last goes first, and may come back
    releases += [Change(site, None, site.status.released_at) for _, site, _ in staying[room:]]
    free = max(0, room - len(staying))
    redated = [change for _, site, held in staying[:room] if (change := _redated(site, held, policy, now))]
    admitted = [_admit(site, verdict, policy, now) for _, site, verdict in wanted[:free]]
    text = f"{room} of {len(joined)} sites are set aside, no more may be (quarantine.maxShare {policy.max_share})"
    kept_out = {site.meta.name: f"{verdict.message}; {text}" for _, site, verdict in wanted[free:]}
    kept_out |= {site.meta.name: f"{held.message}; {text}" for _, site, held in staying[room:]}
    ends = [held.until for _, _, held in staying[:room]]
    return Decision(
        tuple(releases), (*redated, *admitted), kept_out, _soonest(ends, bool(admitted), policy, now)
    )


def capacity(policy: Policy, joined: int) -> int:
    """How many sites may be set aside: a share of those that joined, rounded down, but one; none for a share of 0."""
    if units.share(policy.max_share) == 0:
        return 0
    return max(1, units.at_most(policy.max_share, joined))


def _let_go(site: SiteObject, held: Quarantine, room: int, now: datetime) -> str | None:
    """Up to when evidence is forgotten, if the site is to be released; None: it stays."""
    asked = release_asked(site, now)
    if asked is not None and asked >= units.instant(held.since):
        return units.timestamp(asked)
    if now >= units.instant(held.until) or room == 0:
        return units.timestamp(now)
    return None


def _forgiven_ahead(site: SiteObject, now: datetime) -> bool:
    """A release in the future of a clock that was set back would forgive everything until then."""
    released = site.status.released_at
    return released is not None and units.instant(released) > now + liveness.MAX_SKEW


def _redated(site: SiteObject, held: Quarantine, policy: Policy, now: datetime) -> Change | None:
    """Nobody stays longer than `release_after` from now: the clock was set back, or the policy is shorter now."""
    latest = now + policy.release_after
    if units.instant(held.until) <= latest:
        return None
    since = min(units.instant(held.since), now)
    again = Quarantine(
        since=units.timestamp(since),
        until=units.timestamp(latest),
        reason=held.reason,
        message=held.message,
    )
    return Change(site, again, site.status.released_at)


def _admit(site: SiteObject, verdict: Verdict, policy: Policy, now: datetime) -> Change:
    held = Quarantine(
        since=units.timestamp(now),
        until=units.timestamp(now + policy.release_after),
        reason=verdict.reason,
        message=verdict.message,
    )
    return Change(site, held, site.status.released_at)


def _soonest(ends: list[str], admitted: bool, policy: Policy, now: datetime) -> float | None:
    waits = [(units.instant(end) - now).total_seconds() for end in ends]
    waits += [policy.release_after.total_seconds()] if admitted else []
    return max(0.0, min(waits)) if waits else None


def release_asked(site: SiteObject, now: datetime) -> datetime | None:
    """When a person released the site; None: never, or by an annotation that is no time or lies in the future."""
    text = site.meta.annotations.get(names.RELEASE, "")
    try:
        asked = units.instant(text)
    except ValueError:
        return None
    return asked if asked <= now + liveness.MAX_SKEW else None


class _Fleet:
    """What is known against each site."""

    def __init__(self, found: Iterable[Evidence], policy: Policy, now: datetime) -> None:
        self.policy = policy
        self.now = now
        self.refused: dict[str, list[Refused]] = defaultdict(list)
        self.good: set[str] = set()
        for item in found:
            self.good |= item.good
            for entry in item.refused:
                self.refused[entry.site].append(entry)

    def judge(self, site: SiteObject) -> Verdict | None:
        """Why a site is to be set aside; None: nothing is held against it."""
        if site.meta.name not in self.refused and not site.status.flaps:
            return None
        cleared = self._cleared(site)
        verdicts = [self._failures(site, cleared), *self._flaps(site, cleared)]
        return min(
            (item for item in verdicts if item is not None),
            key=lambda item: (item.due, item.reason),
            default=None,
        )

    def _cleared(self, site: SiteObject) -> datetime | None:
        """Up to when everything is forgiven."""
        times = [release_asked(site, self.now)]
        if site.status.released_at is not None:
            times.append(min(units.instant(site.status.released_at), self.now))
        return max((time for time in times if time is not None), default=None)

    def _counts(self, time: datetime, within: timedelta, cleared: datetime | None) -> bool:
        fresh = self.now - within < time <= self.now + liveness.MAX_SKEW
        return fresh and (cleared is None or time > cleared)

    def _failures(self, site: SiteObject, cleared: datetime | None) -> Verdict | None:
        first: dict[tuple[str, str, int], Refused] = {}
        for entry in self.refused.get(site.meta.name, ()):
            key = (entry.model, entry.revision, entry.attempt)
            known = first.get(key)
            if self._counts(entry.time, self.policy.within, cleared) and (
                known is None or entry.time < known.time
            ):
                first[key] = entry
        if len(first) < self.policy.failures:
            return None
        entries = sorted(first.values(), key=lambda entry: (entry.time, entry.model, entry.revision))
        named = ", ".join(f"{item.revision} of {item.model} ({item.reason})" for item in entries[:NAMED])
        more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
        text = f"refused {len(entries)} revisions within {_hours(self.policy.within)} that are good elsewhere: {named}{more}"
        return Verdict(FAILURES, text, entries[self.policy.failures - 1].time)

    def _flaps(self, site: SiteObject, cleared: datetime | None) -> list[Verdict]:
        times: dict[str, list[datetime]] = defaultdict(list)
        for flap in site.status.flaps or ():
            time = units.instant(flap.time)
            if self._counts(time, self.policy.flaps_within, cleared):
                # a crash is two changes: it was ready before
                times[flap.of] += [time] if flap.of == CONNECTIVITY else [time, time]
        found = []
        for of, seen in times.items():
            if len(seen) < self.policy.flaps or (of != CONNECTIVITY and of not in self.good):
                continue
            due = sorted(seen)[self.policy.flaps - 1]
            within = _hours(self.policy.flaps_within)
            if of == CONNECTIVITY:
                text = f"its connectivity changed {len(seen)} times within {within}"
                found.append(Verdict(FLAPPING, text, due))
            else:
                model, _, revision = of.rpartition("/")
                text = f"revision {revision} of {model}, good elsewhere, crashed {len(seen) // 2} times within {within}"
                found.append(Verdict(CRASHING, text, due))
        return found


def _hours(length: timedelta) -> str:
    minutes = round(length.total_seconds() / 60)
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
