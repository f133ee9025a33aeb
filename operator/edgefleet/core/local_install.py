"""Rules of the local pass that go forward: fetch, self-test, start, canary, promote."""

from dataclasses import replace
from typing import Final

import msgspec

from edgefleet.core import canary, local_canary, local_windows, rendering, units
from edgefleet.core.local import (
    Create,
    Delete,
    FetchFailed,
    Fetching,
    FetchPaused,
    JobSeen,
    Patch,
    Remember,
    StartFetch,
)
from edgefleet.core.local_canary import PACE
from edgefleet.core.local_keep import LONG, backoff, lead_to
from edgefleet.core.local_record import Record, Staged
from edgefleet.core.local_report import self_test_of
from edgefleet.core.local_view import Outcome, View
from edgefleet.core.order import Cause, Download, Mode, Order, SelfTest, Stage

START_GRACE: Final = 60.0
"""Seconds for a cluster to make a pod and start its container before it is told that it does not."""
RESTARTS_FORGIVEN: Final = 5
"""How often a pod that never got ready may have been ended from outside."""


def rejection(
    order: Order, record: Record, active: tuple[str, int, str], name: str, version: int
) -> tuple[str, str] | None:
    """Say why an order must not be obeyed, as reason and message; None when it may.

    `active` is what serves now: bundle digest, version, variant. A hub that was restored from an old backup, or
    is replayed, cannot name the digest to leave; a person or a rollback can.
    """
    bundle, serving_version, _ = active
    if record.name and name != record.name:
        return (
            "BundleNameChanged",
            f"bundle {name!r} is another model than {record.name!r}, which this site serves under that name",
        )
    if version < serving_version and order.replaces != bundle:
        return (
            "HubBehind",
            f"version {version} is older than the {serving_version} that serves; replaces must be {bundle} to go back",
        )
    return None


def rejected(view: View) -> Outcome | None:
    """Refuse an order that would take the site back without saying so."""
    fetch = view.seen.fetch
    if isinstance(fetch, FetchFailed) and fetch.rejected:
        return Outcome(Stage.REJECTED, fetch.trouble.reason, fetch.trouble.message, requeue=LONG)
    if view.staged is None:
        return None
    found = rejection(view.order, view.record, view.active_facts(), view.staged.name, view.staged.version)
    return None if found is None else Outcome(Stage.REJECTED, *found, requeue=LONG)


def fetch(view: View) -> Outcome | None:
    """Get the verified bundle into the store."""
    state = view.seen.fetch
    match state:
        case Staged():
            return _remember_staged(view, state)
        case Fetching():
            return local_windows.no_download(view) or _downloading(view, state.download)
        case FetchFailed():
            return _fetch_failed(view, state)
        case FetchPaused() | None:
            starting = _downloading(view, state.download if state is not None else None)
            starting = replace(starting, action=StartFetch(), why="fetch the bundle")
            return _lapsed(view) or local_windows.no_download(view) or starting


def _downloading(view: View, download: Download | None) -> Outcome:
    limit = view.seen.bandwidth
    message = f"at most {limit} bytes per second" if limit else ""
    return Outcome(Stage.DOWNLOADING, "Downloading", message, requeue=PACE, download=download)


def _remember_staged(view: View, staged: Staged) -> Outcome | None:
    if view.record.staged_for(staged.revision) == staged:
        return None
    others = tuple(item for item in view.record.staged if item.revision != staged.revision)
    record = msgspec.structs.replace(view.record, staged=(*others, staged))
    return Outcome(Stage.STAGED, "Verified", action=Remember(record), why="the bundle is staged", requeue=0.0)


def _fetch_failed(view: View, failed: FetchFailed) -> Outcome:
    trouble = failed.trouble
    if trouble.cause is Cause.MODEL:
        return view.refuse(trouble.reason, trouble.message)
    left = failed.at + backoff(failed.tries) - view.now
    blocked = Outcome(Stage.BLOCKED, trouble.reason, trouble.message, requeue=max(PACE, left))
    if left > 0:
        return blocked
    again = replace(blocked, action=StartFetch(), why="try the download again", requeue=PACE)
    return _lapsed(view) or local_windows.no_download(view) or again


def _lapsed(view: View) -> Outcome | None:
    """Leave an order alone that was never begun and that the hub could long have withdrawn."""
    silent, limit = view.seen.hub_silent, view.order.valid_for
    if silent is None or view.begun or silent <= units.duration(limit):
        return None
    message = f"the hub has been silent for longer than {limit}; waiting for a fresh order"
    return Outcome(Stage.WAITING, "OrderLapsed", message, requeue=LONG)


# -- self-test -------------------------------------------------------------------------------------------
def self_test(view: View) -> Outcome | None:
    """Run the golden set on this hardware, once for each attempt."""
    if view.approved is not None or view.staged is None:
        return None
    job = view.job()
    if job is None:
        made = rendering.selftest(view.seen.place, view.order, view.staged)
        testing = _testing("run the self-test", Create("Job", made))
        tried = view.progress.retries > 0
        return (None if tried else _lapsed(view)) or local_windows.no_update(view) or testing
    if job.report is not None:
        if job.report.passed:
            return None
        return view.refuse(
            job.report.reason or "SelfTestFailed", job.report.message or "the self-test failed"
        )
    if job.trouble is not None:
        return _test_troubled(view, job)
    if not job.running:
        message = f"Job {job.name} has no running pod after {START_GRACE:.0f} s; see its events"
        return _not_started(view, _testing(), f"nopod/{job.uid}", "SelfTestNotStarted", message)
    token = f"selftest/{job.uid}"
    if view.spent(token) > rendering.selftest_seconds(view.order):
        return view.refuse("SelfTestTimeout", "the self-test did not end within progressDeadline")
    return replace(_testing(), token=token, counting=True, requeue=2.0)


def _testing(why: str = "", action: Create | None = None) -> Outcome:
    waiting = Outcome(Stage.SELF_TESTING, "SelfTesting", why=why, requeue=PACE)
    return waiting if action is None else replace(waiting, action=action)


def _test_troubled(view: View, job: JobSeen) -> Outcome:
    trouble = job.trouble
    if trouble is None:
        raise ValueError("the self-test has no trouble")
    if trouble.cause is Cause.MODEL:
        return view.refuse(trouble.reason, trouble.message)
    blocked = Outcome(Stage.BLOCKED, trouble.reason, trouble.message, requeue=5.0)
    if not job.ended:
        return blocked  # it goes on by itself once the image or the memory is there
    token, wait = f"retry/{job.uid}", backoff(view.progress.retries + 1)
    if view.spent(token) < wait:
        return replace(blocked, token=token, counting=True)
    progress = replace(view.progress, retries=view.progress.retries + 1)
    action = Delete("Job", job.name, job.uid)
    return replace(blocked, action=action, why="try the self-test again", requeue=0.0, progress=progress)


# -- pods ---------------------------------------------------------------------------------------------------
def start(view: View) -> Outcome | None:
    """Start the new revision: one pod beside what serves, all of them where nothing does."""
    order, staged = view.order, view.staged
    if staged is None or view.deployment(order.revision) is not None:
        return None
    replicas = 1 if view.active and not view.stable_broken else order.serving.replicas
    made = rendering.deployment(view.seen.place, order, staged, replicas)
    why = f"start {order.revision}"
    starting = Outcome(Stage.STAGED, "Starting", action=Create("Deployment", made), why=why, requeue=PACE)
    return local_windows.no_update(view) or starting


def ready(view: View) -> Outcome | None:
    """Wait for the new pods; one that fails by itself is the model's fault."""
    order = view.order
    pods = view.pods(order.revision)
    troubles = [pod.trouble for pod in pods if pod.trouble is not None]
    for trouble in troubles:
        if trouble.cause is Cause.MODEL:
            return view.refuse(trouble.reason, trouble.message)
    if view.fully_ready(order.revision):
        return None
    if any(pod.killed and not pod.ready and pod.restarts > RESTARTS_FORGIVEN for pod in pods):
        return view.refuse("CanaryRestarts", f"a pod was ended more than {RESTARTS_FORGIVEN} times")
    progress = local_canary.progress_of(view) if _in_canary(view) else None
    if troubles:
        trouble, held = troubles[0], local_canary.last_lease(view)
        return Outcome(Stage.BLOCKED, trouble.reason, trouble.message, lease=held, canary=progress)
    stage = Stage.CANARY if progress is not None else Stage.STAGED
    held = local_canary.last_lease(view)
    starting = Outcome(stage, "Starting", requeue=2.0, counting=True, lease=held, canary=progress)
    number = len(view.ready(order.revision))
    if not any(pod.started for pod in pods if not pod.ready):
        return _no_pods(view, starting, f"nopod/{number}/{view.progress.index}")
    token = f"start/{number}/{view.progress.index}"
    if view.overdue(token):
        return view.refuse("DeadlineExceeded", "the new pods did not get ready within progressDeadline")
    return replace(starting, token=token)


def _no_pods(view: View, starting: Outcome, token: str) -> Outcome:
    """Wait for pods that are not there or whose container never ran: that says nothing of the model."""
    found = view.deployment(view.order.revision)
    if found is not None and found.failure:
        return replace(starting, stage=Stage.BLOCKED, reason="PodsNotCreated", message=found.failure)
    name = found.name if found is not None else ""
    message = f"Deployment {name} has pods missing or not started after {START_GRACE:.0f} s; see their events"
    return _not_started(view, starting, token, "PodsNotStarted", message)


def _not_started(view: View, starting: Outcome, token: str, reason: str, message: str) -> Outcome:
    """Tell that the site is at fault once it has had its time; it may take as long as it needs."""
    waiting = replace(starting, token=token, counting=True, requeue=2.0)
    if view.spent(token) <= START_GRACE:
        return waiting
    return replace(waiting, stage=Stage.BLOCKED, reason=reason, message=message, requeue=5.0)


def _in_canary(view: View) -> bool:
    progress = view.progress
    opened = progress.step is not None or progress.index > 0 or progress.kills > 0
    return opened and bool(view.order.canary.steps) and view.order.mode is Mode.CANARY


def canary_steps(view: View) -> Outcome | None:
    """Compare with what serves, if something does and the order wants it."""
    if view.order.mode is Mode.DIRECT or view.stable_broken or view.approved is not None or view.swapping:
        return None
    if not view.ready(view.active):
        return Outcome(
            Stage.HELD, "ServingNotReady", "what serves has no ready pod to compare with", requeue=PACE
        )
    job = view.job()
    passed = job is not None and job.report is not None and job.report.passed
    return local_canary.run(view, golden_passed=passed)


def promote(view: View) -> Outcome:
    """Approve in the journal, make room, move the selector: the commit point.

    The last step's traffic goes on until then, or the one pod that is left of what serves would answer everything.
    """
    order = view.order
    if view.staged is None or view.seen.service is None:
        raise ValueError("promotion comes after the Service and the bundle are there")
    promoting = Outcome(Stage.STAGED, "Promoting", requeue=PACE, lease=local_canary.last_lease(view))
    if view.approved is None:
        record = view.approve(view.staged, _tested(view))
        return replace(promoting, action=Remember(record), why=f"{order.revision} passed", requeue=0.0)
    scaling = _room(view)
    if scaling is not None:
        return replace(promoting, action=scaling.action, why=scaling.why, requeue=scaling.requeue)
    why = f"callers go to {order.revision}"
    return replace(promoting, action=lead_to(view, order.revision), why=why, requeue=0.0)


def _tested(view: View) -> SelfTest | None:
    job = view.job()
    return None if job is None else self_test_of(job)


def _room(view: View) -> Outcome | None:
    """Scale the new revision up fully; what serves gives room one pod at a time and keeps one."""
    wanted, found = view.order.serving.replicas, view.deployment(view.order.revision)
    if view.swapping:
        return None  # callers wait: what is ready serves them, the rest comes after
    if view.active and not view.stable_broken:
        return local_canary.scale_towards(
            view, canary.split(None, wanted, local_canary.serving_replicas(view))
        )
    if found is None or found.replicas == wanted:
        return None
    action = Patch("Deployment", found.name, rendering.scale(wanted))
    return Outcome(
        Stage.STAGED, "Promoting", action=action, why=f"{found.revision} to {wanted} pods", requeue=0.0
    )
