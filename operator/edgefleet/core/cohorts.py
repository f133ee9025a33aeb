"""Cohorts: sites that share a fact or a label, and those of them a revision is withheld from.

A cohort is `key=value`. One in which too many sites failed is held: it is offered the revision no more, its sites on
it go back, and its failures are not held against the wave. That is for minorities. When held cohorts would be more
than half of the sites, the revision is bad and not the sites, so nothing further is held and the wave is judged by
all its failures.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edgefleet.core import units, verdict
from edgefleet.core.fleet import SiteView
from edgefleet.core.specs import Cohorts
from edgefleet.core.statuses import CohortHold, Failure, Inventory

FACTS: Final = ("arch", "soc", "firmware", "variant")
"""What may be named besides labels. A label of the same name wins."""
VARIANT: Final = "variant"
MOST_HOLDS: Final = 50
LEAST_FAILED: Final = 2
"""One site alone says nothing about its kind."""
REMEMBERED: Final = 16
"""Cohorts a failure lists, however often people change the keys."""
_LABEL_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)

Held = Mapping[str, frozenset[str]]
"""Values held, by key."""


def problems(path: str, spec: Cohorts) -> Iterator[str]:
    """What is wrong with `spec.rollout.cohorts`, each with its field."""
    if not spec.by:
        yield f"{path}.by: must name at least one of {', '.join(FACTS)} or a label key"
    for index, key in enumerate(spec.by):
        if not _LABEL_KEY.fullmatch(key):
            yield f"{path}.by[{index}]: {key!r} is neither one of {', '.join(FACTS)} nor a label key"
        if key in spec.by[:index]:
            yield f"{path}.by[{index}]: {key!r} is named twice"
    if spec.min_sites < 1:
        yield f"{path}.minSites: {spec.min_sites} must be 1 or more"
    try:
        units.check_count_or_share(spec.max_failures)
    except ValueError as error:
        yield f"{path}.maxFailures: {error}"
    else:
        if isinstance(spec.max_failures, str) and units.share(spec.max_failures) >= 1:
            yield f"{path}.maxFailures: {spec.max_failures} would never hold a cohort: write less than 100%"


def value(view: SiteView, key: str, variant: str = "") -> str:
    """A site's value of a key; empty: it is in no cohort of that key. `variant`: the one that failed there."""
    label = view.labels.get(key)
    if label is not None or key not in FACTS:
        return label or ""
    if key == VARIANT:
        return variant or view.report.variant
    found: str = getattr(_inventory(view), key)
    return found


def of(view: SiteView, keys: Iterable[str], variant: str = "") -> tuple[str, ...]:
    """The cohorts of a site, in the order of the keys."""
    return tuple(f"{key}={found}" for key in keys if (found := value(view, key, variant)))


def held_values(holds: Iterable[CohortHold]) -> Held:
    """Holds by key, to be looked up for many sites."""
    return _by_key(hold.cohort for hold in holds)


def _by_key(cohorts: Iterable[str]) -> Held:
    found: dict[str, set[str]] = {}
    for cohort in cohorts:
        key, _, of_key = cohort.partition("=")
        found.setdefault(key, set()).add(of_key)
    return {key: frozenset(values) for key, values in found.items()}


def is_held(view: SiteView, held: Held) -> bool:
    """Whether a site is in a held cohort by what it is now."""
    for key, values in held.items():  # noqa: SIM110  asked for every site: a generator each time would take half of it
        if value(view, key) in values:
            return True
    return False


def succeeded(view: SiteView) -> bool:
    """Whether a site says that what it was ordered serves, however long ago: silence takes back no success."""
    order = view.running
    return order is not None and view.answered and verdict.serves(view.report, order.revision)


def _inventory(view: SiteView) -> Inventory:
    site = view.site
    told = site.agent.status.inventory if site is not None and site.agent is not None else None
    told = told or (site.status.inventory if site is not None else None)
    return told or _NOTHING_TOLD


_NOTHING_TOLD: Final = Inventory()


# -- judging ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evidence:
    """What cohorts are judged by."""

    failures: Sequence[Failure]
    """All that are known, also of sites that are gone."""
    healthy: Sequence[SiteView]
    """Sites on which the revision serves."""
    coming: Sequence[SiteView]
    """Sites that have neither succeeded nor failed yet, heard or not: told to run the revision, or next to be."""
    placed: Sequence[SiteView]
    """All sites that count; the others are of these."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What has become of the cohorts of a rollout."""

    holds: tuple[CohortHold, ...] = ()
    """Those of before first."""
    waiting: frozenset[str] = frozenset()
    """Cohorts about which too little is known yet, and more will be: their failures do not count so far."""
    minority: bool = True
    """False: more than half of the sites would be held. Every failure counts, those in held cohorts too."""
    held: Held = field(default_factory=dict)

    def excused(self, failure: Failure) -> bool:
        """Whether a failure is accounted for by a hold."""
        return any(hold.cohort in failure.cohorts for hold in self.holds)

    def undecided(self, failure: Failure) -> bool:
        """Whether a failure may yet be accounted for by a hold."""
        return not self.waiting.isdisjoint(failure.cohorts) and not self.excused(failure)


def judge(spec: Cohorts | None, before: tuple[CohortHold, ...], evidence: Evidence, time: str) -> Ruling:
    """Hold cohorts in which too many sites failed. What was held before stays held."""
    if not before and (spec is None or not evidence.failures):
        return Ruling()
    return _Judge(spec, before, evidence, time).ruling()


class _Judge:
    """One judgement. The smallest cohort first: what it accounts for is no evidence against a larger one."""

    def __init__(
        self, spec: Cohorts | None, before: tuple[CohortHold, ...], evidence: Evidence, time: str
    ) -> None:
        self.spec = spec
        self.time = time
        self.failures = evidence.failures
        self.holds = {hold.cohort: hold for hold in before}
        told = dict.fromkeys(cohort for failure in evidence.failures for cohort in failure.cohorts)
        wanted = _by_key([*told, *self.holds])
        failed = {failure.site for failure in evidence.failures}
        cohorts_of = {view.name: _among(view, wanted) for view in evidence.placed}
        self.members = _members(evidence.placed, wanted, cohorts_of)
        well = [view for view in evidence.healthy if view.name not in failed]
        self.healthy = _members(well, wanted, cohorts_of)
        self.coming = _members(evidence.coming, wanted, cohorts_of)
        self.half = len(evidence.placed) / 2
        self.sites = {name for cohort in self.holds for name in self.members[cohort]}

    def ruling(self) -> Ruling:
        """Judge all."""
        minority, waiting = True, set[str]()
        for cohort in self._suspects():
            failed, seen = self._counts(cohort, beside=self.holds)
            fits = len(self.sites | self.members[cohort]) <= self.half
            if self._over(failed, seen):
                minority = minority and fits
                if fits and len(self.holds) < MOST_HOLDS:
                    self._hold(cohort)
            elif fits and self._open(failed, seen) and self.coming[cohort]:
                waiting.add(cohort)
        holds = tuple(self._told(hold) for hold in self.holds.values())
        return Ruling(holds, frozenset(waiting), minority, held_values(holds))

    def _suspects(self) -> list[str]:
        """Cohorts that may be held or waited for, the smallest first."""
        keys = self.spec.by if self.spec is not None else ()
        found = Counter(
            cohort
            for failure in self.failures
            for cohort in failure.cohorts
            if cohort not in self.holds and cohort.partition("=")[0] in keys
        )
        telling = [c for c, failed in found.items() if failed >= LEAST_FAILED or self.coming[c]]
        return sorted(telling, key=lambda cohort: (len(self.members[cohort]), cohort))

    def _counts(self, cohort: str, beside: Collection[str] = ()) -> tuple[int, int]:
        """Failed and seen sites of a cohort, without failures that other holds account for."""
        failed = sum(
            cohort in failure.cohorts and not any(other in beside for other in failure.cohorts)
            for failure in self.failures
        )
        return failed, failed + len(self.healthy[cohort])

    def _over(self, failed: int, seen: int) -> bool:
        spec = self.spec
        return (
            spec is not None
            and failed >= LEAST_FAILED
            and seen >= spec.min_sites
            and failed > units.at_most(spec.max_failures, seen)
        )

    def _open(self, failed: int, seen: int) -> bool:
        """Whether more evidence may still hold a cohort: it is not yet judged, or only its second failure is missing."""
        spec = self.spec
        return spec is not None and (seen < spec.min_sites or failed > units.at_most(spec.max_failures, seen))

    def _hold(self, cohort: str) -> None:
        self.holds[cohort] = CohortHold(cohort=cohort, failed=0, seen=0, since=self.time)
        self.sites |= self.members[cohort]

    def _told(self, hold: CohortHold) -> CohortHold:
        """A hold with today's numbers, which never fall."""
        failed, seen = self._counts(hold.cohort)
        failed, seen = max(hold.failed, failed), max(hold.seen, seen)
        first = next((failure for failure in self.failures if hold.cohort in failure.cohorts), None)
        why = f", first {first.site} with {first.reason}: {first.message}" if first is not None else ""
        text = f"{failed} of {seen} sites failed{why}"[:_MESSAGE] if why else hold.message
        return CohortHold(cohort=hold.cohort, failed=failed, seen=seen, since=hold.since, message=text)


_MESSAGE: Final = 1000


def _among(view: SiteView, wanted: Held) -> list[str]:
    """The cohorts of a site that are among some."""
    values = [(key, value(view, key)) for key in wanted]
    return [f"{key}={of_key}" for key, of_key in values if of_key in wanted[key]]


def _members(
    views: Iterable[SiteView], wanted: Held, cohorts_of: Mapping[str, Iterable[str]]
) -> Mapping[str, set[str]]:
    """Names of the sites in each of these cohorts."""
    found: dict[str, set[str]] = {
        f"{key}={of_key}": set() for key, values in wanted.items() for of_key in values
    }
    for view in views:
        for cohort in cohorts_of[view.name]:
            found[cohort].add(view.name)
    return found
