"""Starting an attempt: the EdgeRollout to create, with a number and an attempt nobody has heard of before."""

from typing import Final

from edgefleet.core import names, revision
from edgefleet.core.attempts import Attempts, Intent, policy_marks
from edgefleet.core.decisions import RolloutCreate
from edgefleet.core.fleet import Fleet
from edgefleet.core.seen import BundleCheck, ModelObject
from edgefleet.core.specs import Desired, ModelSpec, RolloutSpec

_ATTEMPTS_LOST: Final = 100
"""How many attempts a hub restored from a backup may have forgotten."""


def start(
    seen_name: str,
    model: ModelObject,
    spec: ModelSpec,
    intent: Intent,
    attempts: Attempts,
    fleet: Fleet,
    bundle: BundleCheck | None,
) -> RolloutCreate:
    """The EdgeRollout to create. Called again before the first was seen, it gives the same name."""
    wanted, last = intent.wanted, attempts.last_of(intent.wanted.revision)
    version = last.spec.bundle_version if last is not None else bundle.version if bundle is not None else 0
    number = _next_number(seen_name, model, attempts, fleet)
    return RolloutCreate(
        name=f"{seen_name}-{number}",
        spec=RolloutSpec(
            model=seen_name,
            revision=wanted.revision,
            attempt=_next_attempt(wanted.revision, attempts, fleet),
            bundle=spec.bundle,
            bundle_version=version,
            image=wanted.image,
            number=number,
            variants=spec.variants,
            serving=revision.without_replicas(spec.serving),
            desired=Desired.ABORTED if intent.aborted else Desired.RUN,
        ),
        labels={
            names.MODEL: names.order_name(model.meta.namespace, seen_name),
            names.REVISION: wanted.revision,
            names.MANAGED_BY: "edgefleet",
        },
        annotations=policy_marks(model.meta, spec),
    )


def _next_number(name: str, model: ModelObject, attempts: Attempts, fleet: Fleet) -> int:
    """One more than the highest ever seen: of rollouts, of what the status remembers, of what orders name."""
    named = {view.order.rollout for view in fleet.views if view.order is not None}
    named.add(model.status.rollout)
    numbers = [
        int(tail)
        for head, _, tail in (text.rpartition("-") for text in named)
        if head == name and tail.isdigit()
    ]
    return 1 + max([*numbers, *(item.spec.number for item in attempts.all)], default=0)


def _next_attempt(of_revision: str, attempts: Attempts, fleet: Fleet) -> int:
    """One more than any rollout, order or site has heard of: a site refuses what failed there at the same attempt.

    A site is believed as far as a hub restored from a backup may have fallen behind, and no further: a number a
    stolen credential made up must not push the fleet's attempts out of their bounds.
    """
    issued = [item.spec.attempt for item in attempts.all if item.spec.revision == of_revision]
    told: list[int] = []
    for view in fleet.views:
        if view.order is not None and view.order.revision == of_revision:
            issued.append(view.order.attempt)
        told.extend(item.attempt for item in view.report.refused if item.revision == of_revision)
    highest = max(issued, default=0)
    return 1 + max([highest, *(item for item in told if item <= highest + _ATTEMPTS_LOST)])
