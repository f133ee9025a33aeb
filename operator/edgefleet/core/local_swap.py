"""Swapping, for `surge: Preferred`: where two revisions do not fit beside each other, what serves goes first.

It is the one way in which a site ever ends what serves for a newcomer, so the journal says so before it is done. The
Service goes on selecting the old revision until the new one is ready: whatever goes wrong meanwhile, the way back is
to start the old one again. A swap has no canary, there is nothing to compare with; the self-test comes first.
"""

from dataclasses import replace
from typing import Final

import msgspec

from edgefleet.core import local_install, local_keep, rendering, units
from edgefleet.core.local import Delete, Patch, Remember
from edgefleet.core.local_canary import PACE, serving_replicas
from edgefleet.core.local_observe import NO_MEMORY
from edgefleet.core.local_view import Outcome, View
from edgefleet.core.order import Stage, Surge, Swap, SwapOutcome

ROOM_GRACE: Final = 15.0
"""Seconds a newcomer has to lack memory: pods that are just ending may make room for it."""
PATIENCE: Final = 60.0
"""Seconds its surroundings may keep a newcomer from the place made for it; then the old revision comes back."""
_LOOK: Final = 30.0
_ROOM: Final = "swap/room"
_BLOCKED: Final = "swap/blocked"


# -- the way there ------------------------------------------------------------------------------------------
def swap(view: View) -> Outcome | None:
    """Take what serves down where the order allows it and nothing else makes room."""
    if view.order.canary.surge is not Surge.PREFERRED or not view.active:
        return None
    if view.swapping:
        return _under_way(view)
    if not _needed(view) or _tried(view):
        return None
    message = "no memory for it beside what serves; surge is Preferred"
    if not view.seen.windows.update.open and not view.going_back:
        text = f"{message}, and they are swapped once the update window opens"
        return Outcome(Stage.BLOCKED, NO_MEMORY, text, requeue=_LOOK)
    waiting = Outcome(Stage.BLOCKED, NO_MEMORY, message, token=_ROOM, counting=True, requeue=2.0)
    if view.spent(waiting.token) <= ROOM_GRACE or not view.ready(view.active):
        return waiting
    order = view.order
    begun = Swap(revision=order.revision, attempt=order.attempt, since=units.timestamp(view.moment))
    record = msgspec.structs.replace(view.record, swap=begun)
    why = f"{view.active} makes room for {order.revision}"
    return replace(_swapping(), action=Remember(record), why=why, requeue=0.0)


def _needed(view: View) -> bool:
    """Whether the newcomer cannot start for want of memory. One that has run here before is past that."""
    progress, target = view.progress, view.order.revision
    if progress.index or progress.step is not None or progress.kills or view.ready(target):
        return False
    return view.cramped


def _tried(view: View) -> bool:
    """Whether this attempt had its gap already; callers are asked for no second one."""
    last = view.record.swap
    return last is not None and (last.revision, last.attempt) == (view.order.revision, view.order.attempt)


def _swapping(message: str = "") -> Outcome:
    text = message or "callers have nobody until the new revision is ready"
    return Outcome(Stage.STAGED, "Swapping", text, requeue=PACE)


def _under_way(view: View) -> Outcome | None:
    serving = view.deployment(view.active)
    if serving is not None and serving.replicas:
        action = Patch("Deployment", serving.name, rendering.scale(0))
        progress = replace(view.progress, down_since=view.now)
        why = f"{serving.revision} to 0 pods"
        return replace(_swapping(), action=action, why=why, requeue=0.0, progress=progress)
    found = local_install.self_test(view) or local_install.start(view) or local_install.ready(view)
    if found is None or found.stage is Stage.ROLLED_BACK:
        return found
    if any(pod.revision == view.active for pod in view.seen.pods):
        return _swapping("what served is ending") if found.stage is Stage.BLOCKED else found
    if found.stage is not Stage.BLOCKED:
        return found
    if found.token or view.spent(_BLOCKED) > PATIENCE:  # one with a token of its own has had its time
        return _give_up(view, f"{found.reason}: {found.message}")
    return replace(found, token=_BLOCKED, counting=True, requeue=min(found.requeue, 2.0))


def _give_up(view: View, why: str) -> Outcome:
    last = view.record.swap
    if last is None:
        raise ValueError("no swap is under way")
    record = msgspec.structs.replace(view.record, swap=msgspec.structs.replace(last, given_up=why[:500]))
    return replace(_swapping(why), action=Remember(record), why=f"give the swap up: {why}", requeue=0.0)


# -- the way back -------------------------------------------------------------------------------------------
def undo(view: View) -> Outcome | None:
    """Bring the old revision back before anything else is begun: it has the first claim to the place."""
    last = view.record.swap
    if last is None or last.gap_seconds is not None or view.swapping:
        return None
    if view.active in ("", last.revision):
        return None
    waiting = replace(_back(view), requeue=PACE)
    newcomer = view.deployment(last.revision)
    if newcomer is not None:
        action = Delete("Deployment", newcomer.name, newcomer.uid)
        return replace(waiting, action=action, why=f"{newcomer.revision} gives its place back", requeue=0.0)
    for job in view.seen.jobs:
        action = Delete("Job", job.name, job.uid)
        return replace(waiting, action=action, why=f"Job {job.name} gives its place back", requeue=0.0)
    serving, wanted = view.deployment(view.active), serving_replicas(view)
    if serving is not None and serving.replicas != wanted:
        patch = Patch("Deployment", serving.name, rendering.scale(wanted))
        return replace(waiting, action=patch, why=f"{serving.revision} to {wanted} pods", requeue=0.0)
    return waiting


def _back(view: View) -> Outcome:
    last = view.record.swap
    why = last.given_up if last is not None and last.given_up else "the swap was called off"
    return local_keep.refused(view) or Outcome(Stage.PENDING, "GoingBack", f"{why}; the old revision starts")


# -- what it cost ---------------------------------------------------------------------------------------------
def measured(view: View) -> Outcome | None:
    """Note how long callers had nobody, as soon as somebody serves again."""
    last, progress = view.record.swap, view.progress
    if last is None or last.gap_seconds is not None or view.swapping or not view.ready(view.active):
        return None
    by_wall = (view.moment - units.instant(last.since)).total_seconds()
    gap = by_wall if progress.down_since is None else view.now - progress.down_since
    arrived = view.active == last.revision
    ended = msgspec.structs.replace(
        last,
        outcome=SwapOutcome.SWAPPED if arrived else SwapOutcome.WENT_BACK,
        gap_seconds=round(max(0.0, gap), 1),
    )
    record = msgspec.structs.replace(view.record, swap=ended)
    outcome = _swapping(f"{view.active} serves after {ended.gap_seconds} s without anybody")
    progress = replace(progress, down_since=None)
    return replace(outcome, action=Remember(record), why=outcome.message, requeue=0.0, progress=progress)
