"""The memory of failed sites. It only ever grows: no relabelling, deletion or restart makes a failure unhappen."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from edgefleet.core import cohorts, units
from edgefleet.core import order as wire
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
    added: tuple[Failure, ...]
    """Learnt now, listed or not."""
    known: tuple[Failure, ...]
    """All that can still be told: those listed, and those not listed whose sites still say so."""

    @property
    def by_wave(self) -> Mapping[str, int]:
        """Failures learnt now, by wave."""
        return Counter(failure.wave for failure in self.added)


def learn(
    rollout: RolloutObject,
    views: Sequence[SiteView],
    wave_of: Callable[[SiteView], str],
    now: datetime,
    keys: Sequence[str] = (),
) -> Ledger:
    """Add what the reports say to what the rollout remembers.

    Any site that names this revision and attempt among its refusals failed, whatever has become of its order. When
    more failed than are listed, those counted but not listed cannot be told from new ones: as many as were hidden
    before are taken off, those whose orders are rewritten already first. `keys` are those cohorts are made by: a
    failure keeps the cohorts its site was in, and gains those of keys that came later.
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
    found = tuple(
        Failure(
            site=view.name,
            reason=entry.reason or "Unknown",
            message=entry.message[:_MESSAGE],
            time=units.timestamp(now),
            wave=wave_of(view),
            cohorts=cohorts.of(view, keys, entry.variant),
        )
        for view, entry in fresh
    )
    added = found[: max(0, len(found) - hidden)]
    listed = (*_with_cohorts(rollout, views, keys), *added)[:LISTED]
    unlisted = {failure.site for failure in found} - {failure.site for failure in listed}
    return Ledger(
        listed=listed,
        total=max(rollout.status.counts.failed, len(known)) + len(added),
        added=added,
        known=(*listed, *(failure for failure in found if failure.site in unlisted)),
    )


def _with_cohorts(
    rollout: RolloutObject, views: Sequence[SiteView], keys: Sequence[str]
) -> tuple[Failure, ...]:
    """The failures listed before, with cohorts of keys they do not have yet."""
    before = rollout.status.failures
    if not keys or not before:
        return before
    names = {failure.site for failure in before}
    views_of = {view.name: view for view in views if view.name in names}
    return tuple(_with_later_cohorts(failure, views_of.get(failure.site), keys) for failure in before)


def _with_later_cohorts(failure: Failure, view: SiteView | None, keys: Sequence[str]) -> Failure:
    had = {cohort.partition("=")[0] for cohort in failure.cohorts}
    missing = [key for key in keys if key not in had]
    if view is None or not missing:
        return failure
    more = cohorts.of(view, missing)
    all_of_them = (*failure.cohorts, *more)[: cohorts.REMEMBERED]
    return msgspec.structs.replace(failure, cohorts=all_of_them) if more else failure


def catching_up(rollout: RolloutObject) -> int:
    """Sites that failed with a completed revision after its waves were over, those in held cohorts aside."""
    status = rollout.status
    holds = {hold.cohort for hold in status.holds}
    held = sum(f.wave == CATCHING_UP and not holds.isdisjoint(f.cohorts) for f in status.failures)
    return max(0, status.counts.failed - sum(wave.failed for wave in status.waves) - held)


def _refusal_at(view: SiteView, rollout: RolloutObject) -> wire.Refusal | None:
    wanted = (rollout.spec.revision, rollout.spec.attempt)
    return next((item for item in view.report.refused if (item.revision, item.attempt) == wanted), None)


def _ordered(view: SiteView, rollout: RolloutObject) -> bool:
    return view.running is not None and view.running.rollout == rollout.meta.name
