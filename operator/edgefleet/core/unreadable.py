"""An EdgeModel whose spec cannot be read: nothing new begins, and what was withdrawn is still taken back."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from edgefleet.core import attempts, fleet, going_back, status, targets, units
from edgefleet.core.attempts import Attempts
from edgefleet.core.composing import Composer
from edgefleet.core.decisions import ModelDecision, OrderWrite, RolloutPatch
from edgefleet.core.fleet import SiteView
from edgefleet.core.seen import ModelObject, ModelSeen, SpecError
from edgefleet.core.specs import ModelSpec, Placement, Selector


def decide(seen: ModelSeen, model: ModelObject, error: SpecError, now: datetime) -> ModelDecision:
    """Say what is wrong, and bring back who is on a revision that was banned, withheld, or refused there."""
    found = attempts.survey(seen.rollouts)
    return ModelDecision(
        status=status.of_invalid(model, error.message, now),
        patch_rollouts=tuple(_outcomes(found, now)),
        orders=tuple(_orders(seen, found, now)),
    )


def _outcomes(found: Attempts, now: datetime) -> Iterator[RolloutPatch]:
    """Outcomes that follow from the verbs and from newer rollouts, written down."""
    for item in found.all:
        outcome = found.outcomes[item.meta.name]
        if outcome is item.status.outcome:
            continue
        ended = msgspec.structs.replace(
            item.status, outcome=outcome, completed_at=units.timestamp(now), paused_at=None
        )
        with_end = attempts.with_status(item, ended)
        yield RolloutPatch(item.meta.name, status.of_rollout(with_end, item.status, None, found, now))


def _orders(seen: ModelSeen, found: Attempts, now: datetime) -> Iterator[OrderWrite]:
    for view in fleet.survey(seen, None, now).views:
        if view.running is None or not going_back.must_leave(view, view.running, found):
            continue
        compose = Composer(
            namespace=seen.namespace, name=seen.name, spec=_as_ordered(view), attempts=found, now=now
        )
        target = targets.target(view, found, admitted=False)
        write = going_back.order(compose, view, view.running, target)
        if write is not None:
            yield write


def _as_ordered(view: SiteView) -> ModelSpec:
    """The settings a site has by its order, in the place of those that cannot be read."""
    order = view.running
    if order is None:
        raise ValueError(f"site {view.name} is told to run nothing")
    everywhere = Placement(site_selector=Selector())
    return ModelSpec(bundle=order.bundle, placement=everywhere, serving=order.serving, canary=order.canary)
