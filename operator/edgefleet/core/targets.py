"""The one function that says what a site should run.

Rollback, supersede, undo, late joiners and returning sites are all this function; it works on orders. Waves decide
only who is admitted.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from edgefleet.core import cohorts, revision, verdict
from edgefleet.core import order as wire
from edgefleet.core.attempts import Attempts
from edgefleet.core.fleet import SiteView
from edgefleet.core.seen import RolloutObject


class Why(StrEnum):
    """Which rule chose a target."""

    ADMITTED = "Admitted"
    SUPERSEDED = "Superseded"
    CURRENT = "Current"
    NO_GOOD_REVISION = "NoGoodRevision"


_ADMITTED: Final = Why.ADMITTED
_CURRENT: Final = Why.CURRENT


class Target(msgspec.Struct, frozen=True, gc=False):
    """What a site should run; no rollout: nothing better than what it runs now."""

    rollout: RolloutObject | None
    why: Why


def target(view: SiteView, attempts: Attempts, admitted: bool) -> Target:
    """Choose for one site. `admitted`: to a wave of the running rollout, now or before."""
    running = attempts.running
    if running is not None and admitted and not refuses(view, running, attempts):
        return Target(running, _ADMITTED)
    if running is not None and (held := superseded_here(view, attempts)) is not None:
        return Target(held, Why.SUPERSEDED)
    for good in attempts.good:
        if not refuses(view, good, attempts):
            return Target(good, _CURRENT)
    return Target(_serving(view, attempts), Why.NO_GOOD_REVISION)


def member(view: SiteView, rollout: RolloutObject | None) -> bool:
    """Whether a site's order was written for a rollout, if there is one: membership lives in the orders."""
    order = view.running
    return rollout is not None and order is not None and written_for(order, rollout)


def written_for(order: wire.Order, rollout: RolloutObject) -> bool:
    """Whether an order is a rollout's: by its name, its revision and its attempt."""
    spec = rollout.spec
    return (
        order.rollout == rollout.meta.name
        and order.revision == spec.revision
        and order.attempt == spec.attempt
    )


def suspects(views: Sequence[SiteView], rollout: RolloutObject, attempts: Attempts) -> Sequence[SiteView]:
    """Those of some sites that may refuse a revision, so that the others need not be asked."""
    if rollout.meta.name in attempts.held:
        return views
    blamed = attempts.failed_sites[rollout.meta.name]
    return [view for view in views if view.report.refused or view.name in blamed]


def refuses(view: SiteView, rollout: RolloutObject, attempts: Attempts) -> bool:
    """Whether a site is not to have a revision: it failed there, or the site's cohort is held."""
    return failed(view, rollout, attempts) or held(view, rollout, attempts)


def held(view: SiteView, rollout: RolloutObject, attempts: Attempts) -> bool:
    """Whether a site's cohort is held. It is judged by what the site is now.

    The variant a site would serve is known only once it does: who left the revision because of its variant would be
    offered it again on the variant it went back to, so that its order, which names what it left, speaks for it.
    """
    holds = attempts.held.get(rollout.meta.name)
    if holds is None or view.site is None:
        return False
    if cohorts.is_held(view, holds):
        return True
    order = view.running
    return (
        cohorts.VARIANT in holds
        and order is not None
        and order.rollout != rollout.meta.name
        and order.replaces == revision.bundle_digest(rollout.spec.bundle)
    )


def failed(view: SiteView, rollout: RolloutObject, attempts: Attempts) -> bool:
    """Whether a site failed with a revision: by its own word, or by what the rollout remembers of it."""
    spec = rollout.spec
    if view.report.refused and verdict.refusal(view.report, spec.revision, spec.attempt) is not None:
        return True
    return view.name in attempts.failed_sites[rollout.meta.name]


def superseded_here(view: SiteView, attempts: Attempts) -> RolloutObject | None:
    """The superseded rollout whose revision serves here by order and report, as long as nothing is held against it."""
    order = view.running
    if order is None or order.rollout not in attempts.superseded:
        return None
    found = attempts.named(order.rollout)
    if found is None:
        return None
    here = view.report.active_revision == order.revision == found.spec.revision
    good = not attempts.banned(order.revision, order.attempt) and not refuses(view, found, attempts)
    return found if here and good else None


def _serving(view: SiteView, attempts: Attempts) -> RolloutObject | None:
    """The rollout of what serves here now, unless it is banned."""
    for item in attempts.all:
        if (
            item.spec.revision == view.report.active_revision
            and not attempts.banned(item.spec.revision, item.spec.attempt)
            and not refuses(view, item, attempts)
        ):
            return item
    return None
