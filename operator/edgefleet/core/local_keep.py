"""Rules of the local pass that come first: keep what serves serving, obey removal, clean up what is left over."""

from dataclasses import replace
from typing import Final

import msgspec

from edgefleet.core import rendering
from edgefleet.core.local import (
    NOTHING,
    Action,
    Create,
    Delete,
    DeploymentSeen,
    FetchFailed,
    FetchPaused,
    Patch,
    Remember,
    StartFetch,
)
from edgefleet.core.local_canary import PACE, lists_only, serving_replicas, settled
from edgefleet.core.local_view import Outcome, View
from edgefleet.core.order import Stage, State

IDLE: Final = 15.0
"""Seconds between looks at a model that is at rest; a change in the cluster wakes the pass at once."""
LONG: Final = 60.0


def backoff(tries: int) -> float:
    """Seconds to wait after so many failures that the environment is to blame for."""
    return float(min(120.0, 5.0 * 2 ** min(tries - 1, 10)))


# -- removal ------------------------------------------------------------------------------------------
def removal(view: View) -> Outcome | None:
    """Take everything away: the Service first, so that callers see a clean end."""
    if view.seen.order is None or view.order.state is not State.REMOVE:
        return None
    for kind, found in (("Service", view.seen.service), ("Service", view.seen.canary_service)):
        if found is not None and found.ours:
            return _removing(Delete(kind, found.name, found.uid))
    for deployment in view.seen.deployments:
        return _removing(Delete("Deployment", deployment.name, deployment.uid))
    for job in view.seen.jobs:
        return _removing(Delete("Job", job.name, job.uid))
    if view.record.finished != "Removed":
        done = msgspec.structs.replace(view.record, finished="Removed", name="", staged=(), served=())
        return replace(_removing(Remember(done)), why="all is removed")
    return Outcome(Stage.REMOVED, "Removed", requeue=LONG)


def _removing(action: Action) -> Outcome:
    why = f"remove {action.kind} {action.name}" if isinstance(action, Delete) else ""
    return Outcome(Stage.REMOVING, "Removing", action=action, why=why, requeue=0.0)


def kept(view: View) -> Outcome | None:
    """Let what serves run on without an owner; a canary under way goes."""
    if view.seen.order is None or view.order.state is not State.KEEP:
        return None
    if view.record.finished == "Kept":
        return Outcome(
            Stage.REMOVED, "Kept", "the model runs on; edgefleet looks after it no more", requeue=LONG
        )
    done = msgspec.structs.replace(view.record, finished="Kept")
    forgotten = Outcome(Stage.REMOVING, "Keeping", action=Remember(done), why="forget the model", requeue=0.0)
    return strangers(view) or restore_scale(view) or forgotten


def too_long(view: View) -> Outcome | None:
    """Reject a model whose objects the site's API server would refuse; the hub lets none of these out."""
    if not view.target:
        return None
    model = view.order.model
    over = len(rendering.selftest_name(model.namespace, model.name, view.target)) - rendering.NAME_LIMIT
    if over <= 0:
        return None
    message = f"namespace {model.namespace} and model {model.name} are {over} characters too long together"
    return Outcome(Stage.REJECTED, "NameTooLong", f"{message} for names on a site", requeue=LONG)


# -- what serves goes on serving ------------------------------------------------------------------------
def service(view: View) -> Outcome | None:
    """Have a Service; it exists before anything serves, so that its address never changes."""
    found, seen = view.seen.service, view.seen
    taken = seen.taken or (f"Service {found.name}" if found is not None and not found.ours else "")
    if taken:
        message = (
            f"{taken} exists in namespace {seen.place.namespace} and is not edgefleet's; delete or rename it"
        )
        return Outcome(Stage.BLOCKED, "NameTaken", message, requeue=30.0)
    if found is not None:
        return None
    best = view.fallback() or next(
        (item for item in reversed(view.record.served) if view.deployment(item.revision) is not None), None
    )
    revision = best.revision if best is not None else NOTHING
    made = rendering.service(seen.place, seen.namespace, seen.model, revision)
    return restoring(Create("Service", made), "the Service is missing")


def selector(view: View) -> Outcome | None:
    """Put a selector back that names a revision nobody promoted here."""
    found, record = view.seen.service, view.record
    if found is None or not view.active or record.served_as(view.active) is not None:
        return None
    best = view.fallback()
    if best is None and view.deployment(view.active) is not None:
        return None  # it may be all there is to know: the journal was lost
    if best is not None and best.revision == view.target and view.ready(view.active):
        return None  # and the newcomer that has just passed waits for all its pods
    chosen = best or (record.served[-1] if record.served else None)
    revision = chosen.revision if chosen is not None else NOTHING
    why = f"the Service selects {view.active}, which was never promoted here"
    return restoring(lead_to(view, revision), why)


def serving_deployment(view: View) -> Outcome | None:
    """Create the Deployment of what serves again, if somebody deleted it."""
    served = view.record.served_as(view.active)
    if served is None or view.deployment(view.active) is not None:
        return None
    made = rendering.deployment(view.seen.place, served.order, served.staged, served.order.serving.replicas)
    return restoring(Create("Deployment", made), f"the Deployment of {view.active} is missing")


def lead_to(view: View, revision: str) -> Patch:
    """Lead callers to a revision; only where there is a Service."""
    service = view.seen.service
    if service is None:
        raise ValueError("a missing Service is made, not changed")
    return Patch("Service", service.name, rendering.select(view.seen.namespace, view.seen.model, revision))


def restoring(action: Action, why: str) -> Outcome:
    return Outcome(Stage.PENDING, "Restoring", why, action, why, requeue=0.0)


# -- cleaning up ------------------------------------------------------------------------------------------
def strangers(view: View) -> Outcome | None:
    """Delete what belongs neither to what serves nor to where the site is going."""
    for item in view.seen.deployments:
        if item.revision in (view.active, view.target):
            continue
        found = _leave(view, item)
        if found is not None:
            return found
    order = view.seen.order
    for job in view.seen.jobs:
        wanted = (
            view.target and order is not None and (job.revision, job.attempt) == (view.target, order.attempt)
        )
        if not wanted or view.target == view.active:
            return _cleaning(view, Delete("Job", job.name, job.uid))
    service = view.seen.canary_service
    if service is not None and service.ours and view.target in ("", view.active):
        return _cleaning(view, Delete("Service", service.name, service.uid))
    return None


def _leave(view: View, item: DeploymentSeen) -> Outcome | None:
    """Delete a Deployment; one that served ends only once every caller is led to its successor."""
    gone = _cleaning(view, Delete("Deployment", item.name, item.uid))
    if view.record.served_as(item.revision) is None and view.active:
        return gone
    if not view.active:  # nothing serves: a newcomer that was given up may go, one that served stays
        return None if view.record.served_as(item.revision) is not None else gone
    if not view.ready(view.active):
        # what is ready may still be wanted back; what is not would only keep a newcomer from its place
        return gone if view.target and view.cramped and not view.ready(item.revision) else None
    if not lists_only(view.seen.endpoints, view.pods(view.active)):
        return replace(_cleaning(view), message="waiting until callers are led to the new pods only")
    progress, done = settled(view.progress, f"endpoints/{view.active}", view.now)
    return replace(gone if done else _cleaning(view), progress=progress)


def _cleaning(view: View, action: Delete | None = None) -> Outcome:
    waiting = refused(view) or outside(view)
    if waiting is None:
        stage = Stage.SERVING if view.active and view.active == view.target else Stage.PENDING
        waiting = Outcome(stage, "CleaningUp")
    waiting = replace(waiting, requeue=PACE)
    if action is None:
        return waiting
    return replace(
        waiting, action=action, why=f"{action.kind} {action.name} is not needed any more", requeue=0.0
    )


def restore_scale(view: View) -> Outcome | None:
    """Give the serving revision its pods back when no newcomer needs the room."""
    serving = view.deployment(view.active)
    if serving is None or view.swapping or view.active == view.target:
        return None
    if view.target and view.deployment(view.target) is not None:
        return None
    wanted = serving_replicas(view)
    if serving.replicas == wanted:
        return None
    action = Patch("Deployment", serving.name, rendering.scale(wanted))
    return replace(_cleaning(view), action=action, why=f"{serving.revision} to {wanted} pods", requeue=0.0)


# -- states of rest ------------------------------------------------------------------------------------------
def unreadable(view: View) -> Outcome | None:
    """Refuse an order that says something this agent does not know, rather than obey a weaker one."""
    if view.seen.order is not None:
        return None
    message = f"the order cannot be obeyed: {view.seen.unreadable}; upgrade the agent of this site"
    return Outcome(Stage.REJECTED, "AgentTooOld", message, requeue=LONG)


def refused(view: View) -> Outcome | None:
    """Stay where the site is: the order's revision failed here."""
    refusal = view.refusal
    if refusal is None:
        return None
    message = refusal.message if view.active else f"{refusal.message}; nothing serves here"
    return Outcome(Stage.ROLLED_BACK, refusal.reason, message, requeue=LONG)


def outside(view: View) -> Outcome | None:
    """Refuse what may not be here, before a byte of it comes; what serves goes on."""
    if not view.outside:
        return None
    here = view.seen.jurisdiction
    said = f"this site is in {here}" if here else "nobody said which jurisdiction this site is in"
    message = f"the order is for {', '.join(view.order.jurisdictions)} only, {said}"
    return Outcome(Stage.REJECTED, "JurisdictionMismatch", message, requeue=LONG)


def converged(view: View) -> Outcome | None:
    """Serve on: the Service selects what the order asks for."""
    if not view.active or view.active != view.target:
        return None
    return _remember_order(view) or _scale_in_place(view) or _serving(view)


def _remember_order(view: View) -> Outcome | None:
    """Keep in the journal what it takes to start this revision again without a hub."""
    served, fetch = view.record.served_as(view.active), view.seen.fetch
    staged = view.staged or (served.staged if served is not None else None)
    serving = _serving(view)
    if served is not None and served.order == view.order and view.staged is not None:
        return None
    if staged is not None and (served is None or served.order != view.order):
        record = view.approve(staged, served.self_test if served is not None else None)
        return replace(serving, action=Remember(record), why="remember what serves", requeue=0.0)
    due = (
        fetch is None
        or isinstance(fetch, FetchPaused)
        or (isinstance(fetch, FetchFailed) and view.now >= fetch.at + backoff(fetch.tries))
    )
    if due:  # the journal was lost, or a file in the store: get it again while the pods serve
        return replace(serving, action=StartFetch(), why="fetch again what serves", requeue=PACE)
    return None


def _scale_in_place(view: View) -> Outcome | None:
    found, wanted = view.deployment(view.active), view.order.serving.replicas
    if found is None or found.replicas == wanted:
        return None
    action = Patch("Deployment", found.name, rendering.scale(wanted))
    return replace(_serving(view), action=action, why=f"{found.revision} to {wanted} pods", requeue=0.0)


def _serving(view: View) -> Outcome:
    if view.fully_ready(view.active):
        if lists_only(view.seen.endpoints, view.pods(view.active)):
            return Outcome(Stage.SERVING, "Serving", requeue=IDLE)
        return Outcome(Stage.SERVING, "NotReady", "waiting for the Service's endpoints", requeue=PACE)
    troubles = [pod.trouble for pod in view.pods(view.active) if pod.trouble is not None]
    message = f"{troubles[0].reason}: {troubles[0].message}" if troubles else "waiting for ready pods"
    return Outcome(Stage.SERVING, "NotReady", message, requeue=5.0)
