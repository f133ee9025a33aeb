"""Going back: orders that name what may not be run are rewritten at once, whoever is away, paused, or misspelt."""

from edgefleet.core import failures, targets
from edgefleet.core import order as wire
from edgefleet.core.attempts import Attempts
from edgefleet.core.composing import GO_BACK, Composer
from edgefleet.core.decisions import OrderWrite
from edgefleet.core.fleet import SiteView
from edgefleet.core.order import State
from edgefleet.core.targets import Target, Why


def must_leave(view: SiteView, order: wire.Order, attempts: Attempts) -> bool:
    """Whether an order names what may not be run: banned, refused here, or superseded before it served."""
    if attempts.banned(order.revision, order.attempt):
        return True
    served = view.report.active_revision == order.revision
    if not served and order.rollout in attempts.superseded and attempts.current is not None:
        return True
    named = attempts.named(order.rollout)
    return named is not None and targets.refuses(view, named, attempts)


def order(
    compose: Composer, view: SiteView, before: wire.Order, target: Target, wave: str = ""
) -> OrderWrite | None:
    """Rewrite an order at once, away or not: to what is good, or to leave alone what serves."""
    if target.rollout is None:
        return compose.change(view, "Kept", state=State.KEEP)
    if targets.written_for(before, target.rollout):
        return None
    if target.why is Why.ADMITTED:
        return compose.offer(view, target.rollout, wave, "Admitted")
    return compose.offer(view, target.rollout, failures.CATCHING_UP, GO_BACK)
