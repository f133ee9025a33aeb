"""Going back, without being told, from a revision that stopped working to one that served well here and still runs."""

from dataclasses import replace
from typing import Final

from edgefleet.core.local_keep import lead_to, restoring
from edgefleet.core.local_view import STABLE_GRACE, Outcome, View
from edgefleet.core.order import Cause, Stage

_REASON: Final = "NotReadyAfterPromotion"


def relapse(view: View) -> Outcome | None:
    """Go back from a revision that stopped working while one that served well before is still there."""
    best = view.fallback()
    if best is None or not view.active:
        return None
    if _given_up(view):
        back = restoring(lead_to(view, best.revision), f"go back to {best.revision}")
        return replace(back, stage=Stage.ROLLED_BACK, reason="GoingBack") if view.refusal else back
    since = view.unready_since
    if since is None or view.now - since < STABLE_GRACE or view.swapping or best.revision == view.target:
        return None
    troubles = [pod.trouble for pod in view.pods(view.active) if pod.trouble is not None]
    if any(item.cause is Cause.ENVIRONMENT for item in troubles):
        return None
    message = (
        troubles[0].message if troubles else f"no ready pod for {STABLE_GRACE:.0f} s after its promotion"
    )
    if view.active == view.target:
        return view.refuse(_REASON, message)
    return _give_up(view, message)


def _given_up(view: View) -> bool:
    """Whether what serves is refused here, at the attempt of its order or, where the order wants another, at its own."""
    order, served = view.seen.order, view.record.served_as(view.active)
    if order is not None and order.revision == view.active:
        return view.refusal is not None
    return served is not None and view.record.refusal_of(view.active, served.order.attempt) is not None


def _give_up(view: View, message: str) -> Outcome | None:
    """Refuse what serves though the order wants another already; that says nothing of the one it wants."""
    served = view.record.served_as(view.active)
    if served is None:
        return None
    then = View(replace(view.seen, order=served.order), view.now, view.moment)
    return restoring(then.refuse(_REASON, message).action, f"give {view.active} up")
