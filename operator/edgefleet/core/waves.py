"""Waves: which there are, what they allow, and what one look at a rollout goes by and comes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from edgefleet.core import units
from edgefleet.core.fleet import Fleet
from edgefleet.core.parse import REST
from edgefleet.core.seen import RolloutObject
from edgefleet.core.specs import RolloutPolicy, Wave
from edgefleet.core.verdict import Verdict

FEW_SITES: Final = 10
"""Up to so many sites in a wave no failure is allowed by default."""
DEFAULT_MAX_FAILURES: Final = "2%"


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a rollout is where it is; `stalled`: only a person can move it."""

    reason: str
    message: str
    stalled: bool = False
    changes_in: float | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a rollout goes by."""

    rollout: RolloutObject
    policy: RolloutPolicy
    fleet: Fleet
    verdicts: Mapping[str, Verdict]
    """Of the sites whose orders belong to the rollout."""
    refusing: frozenset[str]
    """Sites that refused the revision at this attempt, and those whose cohort is held."""
    held: frozenset[str]
    """Of these, the sites whose cohort is held."""
    first: frozenset[str]
    """Sites to be admitted before others: those on a superseded revision."""
    offers: bool
    """False: the spec no longer asks for this revision."""
    paused: bool
    now: datetime

    @property
    def still(self) -> bool:
        """Nothing new is offered and no clock runs."""
        return self.paused or not self.offers


def effective(policy: RolloutPolicy, rollout: RolloutObject) -> tuple[Wave, ...]:
    """The waves in order, the last of which takes what is left. `finish` leaves only the last of those to come."""
    waves = policy.waves
    if not waves or waves[-1].site_selector is not None or waves[-1].limit is not None:
        waves = (*waves, Wave(name=REST))
    if not rollout.spec.finish:
        return waves
    completed = {wave.name for wave in rollout.status.waves if wave.completed_at}
    last = msgspec.structs.replace(waves[-1], soak="0s", approval=False)
    return (*(wave for wave in waves[:-1] if wave.name in completed), last)


def allowed_failures(wave: Wave, sites: int) -> int:
    """Failures a wave of so many sites may have: given, or 0 up to ten sites and 2 % above."""
    if wave.max_failures is not None:
        return units.at_most(wave.max_failures, sites)
    return 0 if sites <= FEW_SITES else units.at_most(DEFAULT_MAX_FAILURES, sites)
