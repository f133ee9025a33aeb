"""The rollouts of one model: which one runs, which revisions are good, which are banned, and when a new one starts."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import msgspec

from edgefleet.core import cohorts, names, revision
from edgefleet.core import order as wire
from edgefleet.core.fleet import Fleet
from edgefleet.core.revision import Wanted
from edgefleet.core.seen import BundleCheck, Meta, ModelObject, RolloutObject
from edgefleet.core.specs import Desired, ModelSpec
from edgefleet.core.statuses import Outcome, RolloutStatus

CANARY_HASH: Final = "edgefleet.dev/canary"
"""On an EdgeRollout: hash of the canary settings it was last run with; others allow another attempt."""
BANNING: Final = frozenset({Outcome.ROLLED_BACK, Outcome.ABORTED})


@dataclass(frozen=True)
class Attempts:
    """All rollouts of a model, newest first, with the outcomes that follow from one another."""

    all: tuple[RolloutObject, ...]
    outcomes: Mapping[str, Outcome]
    """By name. A rollout with a newer one is superseded even if nobody lived to write it down."""
    bans: Mapping[str, int]
    """Highest attempt of each revision that was rolled back or aborted; it and all earlier ones are banned."""

    @cached_property
    def newest(self) -> RolloutObject | None:
        """The newest rollout, whatever became of it."""
        return self.all[0] if self.all else None

    @cached_property
    def running(self) -> RolloutObject | None:
        """The rollout under way."""
        newest = self.newest
        return newest if newest is not None and self.outcomes[newest.meta.name] is Outcome.NONE else None

    @cached_property
    def good(self) -> tuple[RolloutObject, ...]:
        """Rollouts that completed and were not withdrawn since."""
        return tuple(
            item
            for item in self.all
            if self.outcomes[item.meta.name] is Outcome.COMPLETE
            and not self.banned(item.spec.revision, item.spec.attempt)
        )

    @cached_property
    def current(self) -> RolloutObject | None:
        """The newest good one."""
        return next(iter(self.good), None)

    @cached_property
    def failed_sites(self) -> Mapping[str, frozenset[str]]:
        """Sites each rollout remembers as failed, by its name."""
        return {
            item.meta.name: frozenset(failure.site for failure in item.status.failures) for item in self.all
        }

    @cached_property
    def digests(self) -> frozenset[str]:
        """Bundles that were rolled out."""
        return frozenset(revision.bundle_digest(item.spec.bundle) for item in self.all)

    @cached_property
    def held(self) -> Mapping[str, cohorts.Held]:
        """What each rollout withholds its revision from, by its name. Those without holds are not in it."""
        return {
            item.meta.name: cohorts.held_values(item.status.holds) for item in self.all if item.status.holds
        }

    @cached_property
    def superseded(self) -> frozenset[str]:
        """Rollouts that ended because a newer revision was asked for."""
        return frozenset(name for name, outcome in self.outcomes.items() if outcome is Outcome.SUPERSEDED)

    @cached_property
    def _by_name(self) -> Mapping[str, RolloutObject]:
        return {item.meta.name: item for item in self.all}

    @cached_property
    def bad(self) -> frozenset[str]:
        """Revisions whose latest attempt is banned."""
        return frozenset(
            item
            for item, attempt in self.bans.items()
            if (last := self.last_of(item)) is not None and last.spec.attempt <= attempt
        )

    def banned(self, of_revision: str, attempt: int) -> bool:
        """Whether a revision failed or was aborted fleet-wide at this attempt or a later one."""
        return attempt <= self.bans.get(of_revision, 0)

    def named(self, name: str) -> RolloutObject | None:
        """A rollout by its name."""
        return self._by_name.get(name)

    def last_of(self, of_revision: str) -> RolloutObject | None:
        """The latest attempt at a revision."""
        return next((item for item in self.all if item.spec.revision == of_revision), None)


def survey(rollouts: Iterable[RolloutObject]) -> Attempts:
    """Order the rollouts and derive their outcomes."""
    ordered = tuple(sorted(rollouts, key=lambda item: item.spec.number, reverse=True))
    outcomes = {item.meta.name: _outcome(item, item is ordered[0]) for item in ordered}
    bans: dict[str, int] = {}
    for item in ordered:
        if outcomes[item.meta.name] in BANNING:
            bans[item.spec.revision] = max(bans.get(item.spec.revision, 0), item.spec.attempt)
    return Attempts(ordered, outcomes, bans)


def with_status(item: RolloutObject, status: RolloutStatus) -> RolloutObject:
    """The same rollout with another status."""
    return dataclasses.replace(item, status=status)


def _outcome(item: RolloutObject, newest: bool) -> Outcome:
    written = item.status.outcome
    if item.spec.desired is Desired.ABORTED and written is not Outcome.ROLLED_BACK:
        return Outcome.ABORTED
    if written is Outcome.NONE and not newest:
        return Outcome.SUPERSEDED
    return written


# -- what the spec asks for ---------------------------------------------------------------------------


class Course(StrEnum):
    """What the spec means for the rollouts."""

    FOLLOW = "Follow"
    """The newest rollout is the one asked for; go on with it."""
    START = "Start"
    """A new attempt is due."""
    GIVE_UP = "GiveUp"
    """Asked for is what is good already: the running rollout is aborted."""
    SETTLED = "Settled"
    """Asked for is what is good already, and nothing runs."""
    CHECKING = "Checking"
    """The bundle has not been looked at, or its registry could not be asked."""
    BUNDLE_INVALID = "BundleInvalid"
    NO_SITES = "NoSitesMatch"
    FAILED_BEFORE = "RevisionFailedBefore"


@dataclass(frozen=True, slots=True)
class Intent:
    """What the spec asks for, and what that means."""

    wanted: Wanted
    course: Course
    message: str = ""
    reason: str = ""
    """Of a bundle that is not accepted."""
    aborted: bool = False
    """The attempt that is due only says that there is none: a person deleted the one under way, or one that failed."""


def intend(
    model: ModelObject,
    spec: ModelSpec,
    attempts: Attempts,
    fleet: Fleet,
    bundle: BundleCheck | None,
    image: str,
) -> Intent:
    """Compare the spec with the rollouts there are."""
    wanted = revision.wanted(spec, attempts.all, image)
    newest, last = attempts.newest, attempts.last_of(wanted.revision)
    failed = last is not None and attempts.banned(last.spec.revision, last.spec.attempt)
    if last is not None and not failed:
        if newest is last and attempts.outcomes[last.meta.name] is not Outcome.SUPERSEDED:
            return Intent(wanted, Course.FOLLOW)
        if last is attempts.current:
            return Intent(wanted, Course.GIVE_UP if attempts.running else Course.SETTLED)
    if last is not None and failed and not _allowed_again(model, spec, last, attempts):
        if newest is last:
            return Intent(wanted, Course.FOLLOW)
        return Intent(wanted, Course.FAILED_BEFORE, _failed_before(last, attempts))
    if last is None and _deleted(model, wanted.revision, newest):
        return Intent(wanted, Course.START, aborted=True)
    if fleet.nobody:
        return Intent(wanted, Course.NO_SITES, fleet.nobody)
    return Intent(wanted, Course.START) if last is not None else accepted(wanted, spec, bundle)


def accepted(wanted: Wanted, spec: ModelSpec, bundle: BundleCheck | None) -> Intent:
    """A revision nobody tried yet starts only with a bundle that was looked up, exists and is signed."""
    if bundle is None or bundle.bundle != spec.bundle:
        return Intent(wanted, Course.CHECKING, "the bundle is being looked up", "Checking")
    if not bundle.ok:
        course = Course.CHECKING if bundle.environment else Course.BUNDLE_INVALID
        return Intent(wanted, course, bundle.message, bundle.reason or "BundleInvalid")
    unknown = [name for name in spec.variants if bundle.variants and name not in bundle.variants]
    if unknown:
        text = f"spec.variants: the bundle has no variant {unknown[0]!r}, only {', '.join(bundle.variants)}"
        return Intent(wanted, Course.BUNDLE_INVALID, text, "UnknownVariant")
    return Intent(wanted, Course.START)


def _deleted(model: ModelObject, wanted: str, newest: RolloutObject | None) -> bool:
    """Whether a person deleted the attempt at a revision that was under way or had failed.

    The status names it though it is gone: the operator prunes neither the newest nor the good one. An attempt that had
    completed is made again, as its sites serve the revision.
    """
    status = model.status
    head, _, number = status.rollout.rpartition("-")
    named = int(number) if head == model.meta.name and number.isdigit() else 0
    known = newest.spec.number if newest is not None else 0
    return named > known and status.target_revision == wanted != status.current_revision


def _allowed_again(model: ModelObject, spec: ModelSpec, last: RolloutObject, attempts: Attempts) -> bool:
    """A person asks for another attempt by a new value of the retry annotation, or by other canary settings."""
    retry = model.meta.annotations.get(names.RETRY, "")
    used = {item.meta.annotations.get(names.RETRY, "") for item in attempts.all}
    known = last.meta.annotations.get(CANARY_HASH)
    return bool(retry and retry not in used) or (known is not None and known != canary_hash(spec.canary))


def _failed_before(last: RolloutObject, attempts: Attempts) -> str:
    return (
        f"revision {last.spec.revision} ({revision.bundle_digest(last.spec.bundle)}) ended as "
        f"{attempts.outcomes[last.meta.name]} in {last.meta.name}: annotate the EdgeModel with a new value of "
        f"{names.RETRY}, change spec.canary, or apply another bundle"
    )


def policy_marks(meta: Meta, spec: ModelSpec) -> dict[str, str]:
    """Annotations of a running rollout: what it was tried with, so that something else can allow another attempt."""
    return {CANARY_HASH: canary_hash(spec.canary), names.RETRY: meta.annotations.get(names.RETRY, "")}


def canary_hash(canary: wire.Canary) -> str:
    """10 hex digits over the canary settings."""
    canonical = json.dumps(msgspec.to_builtins(canary), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]
