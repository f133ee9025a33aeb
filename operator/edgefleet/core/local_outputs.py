"""Whether answers of two revisions can agree at all: a rule of the local pass."""

from collections.abc import Sequence

from edgefleet.core.local_keep import LONG
from edgefleet.core.local_record import Output
from edgefleet.core.local_view import Outcome, View
from edgefleet.core.order import Mode, Stage


def incomparable(view: View) -> Outcome | None:
    """Refuse to compare answers that cannot be alike; it is the order that asks for the impossible, not the model."""
    order, served = view.order, view.record.served_as(view.active)
    asked = order.canary.gates.min_agreement and order.mode is Mode.CANARY and view.approved is None
    if not asked or view.staged is None or served is None:
        return None
    new, old = view.staged.outputs, served.staged.outputs
    if not new or not old or _alike(new, old):
        return None
    message = (
        f"its outputs ({_listed(new)}) are not those of {view.active}, which serves ({_listed(old)}): answers cannot "
        "agree, leave gates.minAgreement out"
    )
    return Outcome(Stage.REJECTED, "OutputsDiffer", message, requeue=LONG)


def _alike(new: Sequence[Output], old: Sequence[Output]) -> bool:
    known = {item.name: item for item in old}
    return len(new) == len(old) and all(
        item.name in known
        and item.datatype == known[item.name].datatype
        and len(item.shape) == len(known[item.name].shape)
        and all(a == b or a < 0 or b < 0 for a, b in zip(item.shape, known[item.name].shape, strict=True))
        for item in new
    )


def _listed(outputs: Sequence[Output]) -> str:
    return ", ".join(f"{item.name} {item.datatype} {list(item.shape)}" for item in outputs)
