"""Why a rollout stands where it stands, in words for people: what is missing, and who can do what about it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from edgefleet.core import opening, units, window
from edgefleet.core.fleet import SiteView
from edgefleet.core.specs import Wave
from edgefleet.core.statuses import CohortHold, WaveStatus
from edgefleet.core.verdict import Verdict
from edgefleet.core.waves import Hold, Look

NAMED: Final = 3
"""Sites or cohorts a message names."""
_HELD: Final = Verdict.HELD
COHORT_HELD: Final = "CohortHeld"
RATE_LIMITED: Final = "RateLimited"


def waiting_approval(look: Look, wave: Wave) -> Hold:
    """A person must let the wave start."""
    name = look.rollout.meta.name
    text = f"wave {wave.name} waits for approval: `edgefleet rollout approve {name} --wave {wave.name}`"
    return Hold("WaitingApproval", text)


def standing(look: Look) -> Hold:
    """Nothing is offered and no clock runs."""
    if look.paused:
        text = "no offers, no soak, until spec.paused is false and the rollout's desired is Run"
        return Hold("Paused", text)
    return Hold("Paused", "no offers: spec asks for another revision, which cannot start")


def no_sites(wave: Wave) -> Hold:
    """A selector that means nobody."""
    text = f"wave {wave.name}: no placed site that has joined and is not set aside matches it: correct its siteSelector, or join, uncordon or release sites"
    return Hold("NotEnoughSites", text)


def all_held(look: Look, wave: Wave, sites: int, holds: Sequence[CohortHold]) -> Hold:
    """A wave of nobody but held sites in a rollout that has nowhere succeeded: nothing says that it would."""
    name = look.rollout.meta.name
    text = (
        f"wave {wave.name}: all that is left of it is held, {_named(holds)} ({sites} sites), and nowhere is the revision "
        f"healthy yet: `edgefleet rollout abort {name}`, apply another bundle, or let the wave take other sites"
    )
    return Hold(COHORT_HELD, text, stalled=True)


def cohorts_held(holds: Sequence[CohortHold], sites: int) -> str:
    """Which cohorts do without the revision; empty: none does."""
    return f"{COHORT_HELD}: {_named(holds)} ({sites} sites) do without this revision" if holds else ""


def rate_limited(per_minute: int, healthy: int, at: datetime) -> str:
    """Offers have to wait."""
    return f"{RATE_LIMITED} to {per_minute} offers a minute with {healthy} sites healthy, the next at {units.timestamp(at)}"


def who_acts(status: WaveStatus, expected: int) -> str:
    """Of a wave that has too few healthy sites."""
    missing = expected - status.admitted
    return (
        f"{status.unreachable + missing} unreachable, {status.blocked} blocked, {status.failed - status.held} failed; "
        "bring sites back, cordon or delete those that are gone, or finish or abort the rollout"
    )


def who_works(look: Look, busy: Sequence[SiteView], working: int, shut: Sequence[SiteView]) -> str:
    """The sites that are not done: at work, held at their own side, waiting for windows."""
    waiting = [view for view in busy if look.verdicts[view.name] is _HELD]
    patient = [view for view in waiting if view.report.reason in window.WAITING]
    held = [view for view in waiting if view.report.reason not in window.WAITING]
    active = len(busy) - len(held) - len(patient) + working
    windows = [opening.told(patient, shut)] if patient or shut else []
    if held and not active:
        return ", ".join([who_waits(look, held), *windows])
    if windows and not active:
        return windows[0]
    return ", ".join([f"{active} at work, {len(held)} waiting at the site", *windows])


def who_waits(look: Look, waiting: Sequence[SiteView]) -> str:
    """The sites that wait at their own side, why, and what a person can do."""
    named = "; ".join(f"{view.name}: {_why_held(view)}" for view in waiting[:NAMED])
    more = f" and {len(waiting) - NAMED} more" if len(waiting) > NAMED else ""
    name = look.rollout.meta.name
    return (
        f"{len(waiting)} waiting at the site ({named}{more}): see to it there, ease spec.canary (where callers are silent "
        f"onNoTraffic: Golden), or `edgefleet rollout direct {name}`, or `edgefleet rollout abort {name}`"
    )


def _why_held(view: SiteView) -> str:
    reason = view.report.reason or str(view.report.stage)
    return f"{reason}, {view.report.message}" if view.report.message else reason


def _named(holds: Sequence[CohortHold]) -> str:
    more = f" and {len(holds) - NAMED} more" if len(holds) > NAMED else ""
    return ", ".join(hold.cohort for hold in holds[:NAMED]) + more
