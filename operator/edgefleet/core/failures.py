"""The memory of failed sites. It only ever grows: no relabelling, deletion or restart makes a failure unhappen."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edgefleet.core import order as wire
from edgefleet.core import units
from edgefleet.core.fleet import SiteView
from edgefleet.core.seen import RolloutObject
from edgefleet.core.statuses import Failure

LISTED: Final = 200
"""Failures a rollout lists; the counts go on."""
CATCHING_UP: Final = ""
"""Stands for a wave in failures of sites that were offered a completed revision."""
_MESSAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Ledger:
    """Failures of one rollout after this look."""

    listed: tuple[Failure, ...]
    total: int
    by_wave: Mapping[str, int]
    """Failures learnt now, by wave."""


def learn(
    rollout: RolloutObject, views: Sequence[SiteView], wave_of: Callable[[SiteView], str], now: datetime
) -> Ledger:
    """Add what the reports say to what the rollout remembers.

    Any site that names this revision and attempt among its refusals failed, whatever has become of its order. When
    more failed than are listed, those counted but not listed cannot be told from new ones: as many as were hidden
    before are taken off, those whose orders are rewritten already first.
    """
    known = {failure.site for failure in rollout.status.failures}
    hidden = max(0, rollout.status.counts.failed - len(known))
    fresh = [
        (view, entry)
        for view in views
        if view.report.refused
        and view.name not in known
        and (entry := _refusal_at(view, rollout)) is not None
    ]
    fresh.sort(key=lambda pair: (not _ordered(pair[0], rollout), pair[0].name))
    added = tuple(
        Failure(
            site=view.name,
            reason=entry.reason or "Unknown",
            message=entry.message[:_MESSAGE],
            time=units.timestamp(now),
            wave=wave_of(view),
        )
        for view, entry in fresh[: max(0, len(fresh) - hidden)]
    )
    return Ledger(
        listed=(rollout.status.failures + added)[:LISTED],
        total=max(rollout.status.counts.failed, len(known)) + len(added),
        by_wave=Counter(failure.wave for failure in added),
    )


def catching_up(rollout: RolloutObject) -> int:
    """Sites that failed with a completed revision after its waves were over."""
    return max(0, rollout.status.counts.failed - sum(wave.failed for wave in rollout.status.waves))


def _refusal_at(view: SiteView, rollout: RolloutObject) -> wire.Refusal | None:
    wanted = (rollout.spec.revision, rollout.spec.attempt)
    return next((item for item in view.report.refused if (item.revision, item.attempt) == wanted), None)


def _ordered(view: SiteView, rollout: RolloutObject) -> bool:
    return view.running is not None and view.running.rollout == rollout.meta.name
