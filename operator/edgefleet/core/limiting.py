"""What limits a walk through the waves besides the waves themselves: cohorts that are held, and the rate of offers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from edgefleet.core import cohorts, holding, pacing, units
from edgefleet.core.cohorts import Evidence, Ruling
from edgefleet.core.failures import Ledger
from edgefleet.core.fleet import SiteView
from edgefleet.core.pacing import Pace
from edgefleet.core.statuses import Failure
from edgefleet.core.waves import Hold, Look


def ruling(look: Look, ledger: Ledger, candidates: Sequence[SiteView]) -> Ruling:
    """What becomes of the cohorts. `candidates`: sites that may still be admitted to the wave under way."""
    members = [view for view in look.fleet.counted if view.name in look.verdicts]
    healthy = [view for view in members if cohorts.succeeded(view)]
    done = {view.name for view in healthy}
    evidence = Evidence(
        failures=ledger.known,
        healthy=healthy,
        coming=[*(view for view in members if view.name not in done), *candidates],
        placed=look.fleet.counted,
    )
    before = look.rollout.status.holds
    return cohorts.judge(look.policy.cohorts, before, evidence, units.timestamp(look.now))


def held_sites(look: Look, found: Ruling) -> frozenset[str]:
    """Sites the revision is withheld from."""
    if not found.held:
        return frozenset()
    counted = look.fleet.counted
    return frozenset(v.name for v in counted if v.name in look.held or cohorts.is_held(v, found.held))


def newly_excused(look: Look, ledger: Ledger, found: Ruling) -> Mapping[str, int]:
    """Failures by wave that a hold accounts for since this look."""
    status = look.rollout.status
    before = {hold.cohort for hold in status.holds}
    had = {failure.site for failure in status.failures if not before.isdisjoint(failure.cohorts)}
    told = {failure.site for failure in (*status.failures, *ledger.added)}
    return Counter(
        failure.wave
        for failure in ledger.known
        if failure.site in told and failure.site not in had and found.excused(failure)
    )


def pace(look: Look, failures: Sequence[Failure], healthy: int) -> Pace | None:
    """Offers of the last minute, those included that have failed since. `finish` is a person's word that it is fine."""
    rate, rollout = look.policy.rate, look.rollout
    if rate is None or rollout.spec.finish:
        return None
    name = rollout.meta.name
    orders = (view.running for view in look.fleet.views if view.running is not None)
    offered = [order.offered_at for order in orders if order.rollout == name]
    gone = [failure.time for failure in failures if failure.site not in look.verdicts]
    return pacing.pace(pacing.per_minute(rate, healthy), pacing.MINUTE, (*offered, *gone), look.now)


def said(look: Look, hold: Hold, healthy: int, next_at: datetime | None) -> Hold:
    """The same hold; if it is the rate that keeps offers back, with when it goes on."""
    rate = look.policy.rate
    if rate is None or next_at is None:
        return hold
    text = holding.rate_limited(pacing.per_minute(rate, healthy), healthy, next_at)
    left = max((next_at - look.now).total_seconds(), 0.0)
    soonest = left if hold.changes_in is None else min(left, hold.changes_in)
    return replace(hold, message=f"{hold.message}; {text}", changes_in=soonest)
