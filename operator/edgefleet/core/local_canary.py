"""The canary inside a site, step by step: a rule of the local pass that answers None once every step has passed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from edgepod.contract import TrafficLease

from edgefleet.core import canary, rendering, units
from edgefleet.core.canary import Evidence, Split, Verdict
from edgefleet.core.local import BrokenGate, Create, Endpoint, Patch, PodSeen, Progress, StepState
from edgefleet.core.local_view import Outcome, View
from edgefleet.core.order import CanaryProgress, Cause, Stage, Step

SETTLE: Final = 1.0
"""Seconds for a change of endpoints to reach every proxy of the cluster."""
TAKE_UP: Final = 30.0
"""Seconds for serving pods to take a step up (they ask every second) before the canary is called held."""
CONFIRM: Final = 20.0
"""Seconds for a canary that broke a gate to show that it was alive meanwhile."""
KILLS_FORGIVEN: Final = 2
"""How often canary pods may be ended from outside before the model is blamed."""
PACE: Final = 1.0
QUICK: Final = 0.25
"""Seconds between looks while something is about to happen that nobody brings news of."""
_ABOUT: Final = 3.0
"""Seconds after a step was opened in which the serving pods are about to take it up."""


def settled(progress: Progress, key: str, now: float) -> tuple[Progress, bool]:
    """Note that `key` holds; True once it has held for SETTLE seconds."""
    if progress.settled != key:
        return replace(progress, settled=key, settled_at=now), False
    return progress, now - progress.settled_at >= SETTLE


def lists_only(endpoints: tuple[Endpoint, ...], pods: Sequence[PodSeen]) -> bool:
    """Return whether a Service leads to some of these pods, ready, and to nobody else."""
    return any(item.ready for item in endpoints) and {item.pod for item in endpoints} <= {
        pod.name for pod in pods
    }


def run(view: View, *, golden_passed: bool) -> Outcome | None:
    """Do the next thing of the canary; None when all steps have passed."""
    steps, index = view.order.canary.steps, view.progress.index
    if index >= len(steps):
        return None
    return (
        _service(view)
        or scale_towards(
            view, canary.split(steps[index], view.order.serving.replicas, serving_replicas(view))
        )
        or _open(view)
        or _judge(view, steps[index], golden_passed=golden_passed)
    )


def lease(view: View) -> TrafficLease | None:
    """Return what the serving pods are to do while the step under way lasts."""
    state, service = view.progress.step, view.seen.canary_service
    steps = view.order.canary.steps
    if state is None or service is None or not service.address or not steps:
        return None
    step = steps[min(view.progress.index, len(steps) - 1)]
    address = f"[{service.address}]" if ":" in service.address else service.address
    return canary.lease(step, view.order.canary.gates, state.id, f"http://{address}:80")


def last_lease(view: View) -> TrafficLease | None:
    """Return the last step's lease once all have passed: it holds until the selector has moved."""
    if not view.active or view.progress.index < len(view.order.canary.steps):
        return None
    return lease(view)


def progress_of(view: View, evidence: Evidence | None = None, message: str = "") -> CanaryProgress:
    """Tell where the canary is."""
    steps = view.order.canary.steps
    index = min(view.progress.index, len(steps) - 1)
    seen = evidence or Evidence()
    return CanaryProgress(
        step=index,
        steps=len(steps),
        shadow=steps[index].shadow,
        weight=steps[index].weight,
        requests=seen.requests,
        errors=seen.bad,
        agreement=seen.agreement,
        message=message,
    )


def serving_replicas(view: View) -> int:
    """Return how many pods the serving revision is meant to have."""
    served = view.record.served_as(view.active)
    if served is not None:
        return served.order.serving.replicas
    deployment = view.deployment(view.active)
    return deployment.replicas if deployment is not None else 1


def scale_towards(view: View, goal: Split) -> Outcome | None:
    """Scale by one pod; None when there and the new ones are ready."""
    new, old = view.deployment(view.order.revision), view.deployment(view.active)
    if new is None or old is None:
        return None
    ready = view.fully_ready(new.revision) and bool(view.ready(old.revision))
    following = canary.next_scale(Split(new.replicas, old.replicas), goal)
    if following is None and ready:
        return None
    waiting = _waiting(view, "Scaling", f"{goal.new} new and {goal.old} serving pods wanted")
    if following is None or not ready:
        return waiting
    changed, replicas = (new, following.new) if following.new != new.replicas else (old, following.old)
    action = Patch("Deployment", changed.name, rendering.scale(replicas))
    progress = replace(view.progress, step=None, settled="")
    why = f"{changed.revision} to {replicas} pods"
    return replace(waiting, action=action, why=why, requeue=0.0, progress=progress)


def _waiting(view: View, reason: str, message: str = "", stage: Stage = Stage.CANARY) -> Outcome:
    return Outcome(stage, reason, message, requeue=PACE, canary=progress_of(view, message=message))


def _service(view: View) -> Outcome | None:
    order, found = view.order, view.seen.canary_service
    namespace, model = order.model.namespace, order.model.name
    starting = replace(_waiting(view, "Starting"), why="make the canary reachable", requeue=0.0)
    if found is None:
        made = rendering.service(view.seen.place, namespace, model, order.revision, canary=True)
        return replace(starting, action=Create("Service", made))
    if not found.ours:
        message = f"Service {found.name} exists and is not edgefleet's; delete or rename it"
        return Outcome(Stage.BLOCKED, "NameTaken", message, requeue=30.0)
    if found.revision != order.revision:
        body = rendering.select(namespace, model, order.revision)
        return replace(starting, action=Patch("Service", found.name, body))
    return None


def _open(view: View) -> Outcome | None:
    """Start a step once every proxy knows the canary; start its clock once every serving pod takes part."""
    state = view.progress.step
    if state is None:
        return _opened(view)
    if state.begun is not None:
        return None
    serving, fresh = _starts(view.ready(view.active)), _starts(view.ready(view.order.revision))
    if fresh is not None and fresh != state.lives:
        return _canary_replaced(view)
    evidence = canary.gather(state.id, [pod.health for pod in view.ready(view.active)])
    broken = canary.broken_gate(view.order.canary.gates, evidence)
    if broken is not None:  # one that hangs at its first request may never be seen to take a step up
        return _failed(view, broken, evidence, confirmed=fresh is not None)
    if evidence.complete and serving:
        begun = replace(state, begun=view.now, stable=serving)
        progress = replace(view.progress, step=begun)
        return replace(_waiting(view, "Step"), progress=progress, lease=lease(view))
    message, waited = "waiting for the serving pods to take the step up", view.now - state.opened
    if waited <= TAKE_UP:
        pace = QUICK if waited < _ABOUT else PACE
        return replace(_waiting(view, "Starting", message), lease=lease(view), requeue=pace)
    return replace(_waiting(view, "StepNotTakenUp", message, Stage.HELD), lease=lease(view))


def _opened(view: View) -> Outcome:
    order = view.order
    if not lists_only(view.seen.canary_endpoints, view.pods(order.revision)):
        return _waiting(view, "Starting", "waiting for the canary's endpoints")
    progress, done = settled(view.progress, f"canary/{order.revision}", view.now)
    lives = _starts(view.ready(order.revision))
    if not done or not lives:
        return replace(_waiting(view, "Starting"), progress=progress, requeue=QUICK)
    number = progress.steps_opened + 1
    name = f"{order.revision}-{order.attempt}-{progress.run}-{number}"
    progress = replace(progress, step=StepState(name, view.now, lives=lives), steps_opened=number)
    moved = View(replace(view.seen, progress=progress), view.now, view.moment)
    return replace(_waiting(moved, "Starting"), progress=progress, lease=lease(moved), requeue=QUICK)


def _starts(pods: Sequence[PodSeen]) -> frozenset[str] | None:
    """Processes behind the pods; None when one of them could not be asked."""
    if any(pod.health is None for pod in pods):
        return None
    return frozenset(f"{pod.uid}/{pod.health.start_id}" for pod in pods if pod.health is not None)


def _judge(view: View, step: Step, *, golden_passed: bool) -> Outcome:
    state = view.progress.step
    if state is None or state.begun is None:
        raise ValueError("a step is judged after it has begun")
    serving, fresh = _starts(view.ready(view.active)), _starts(view.ready(view.order.revision))
    if fresh is not None and fresh != state.lives:
        return _canary_replaced(view)
    if serving is not None and serving != state.stable:
        return _evidence_again(view, view.progress.kills, "a serving pod was replaced")
    if state.lost:
        return _evidence_again(
            view, view.progress.kills, "the serving pods were told of no canary for a while"
        )
    evidence = canary.gather(state.id, [pod.health for pod in view.ready(view.active)])
    elapsed = view.now - state.begun
    verdict = canary.judge(step, view.order.canary, evidence, elapsed, golden_passed=golden_passed)
    known = serving is not None and fresh is not None
    match verdict.outcome:
        case canary.Outcome.FAILED:
            return _failed(view, verdict, evidence, confirmed=fresh is not None)
        case canary.Outcome.PASSED if known:
            return _passed(view, verdict, evidence)
        case canary.Outcome.INCONCLUSIVE:
            stage, reason = Stage.HELD, verdict.reason
        case canary.Outcome.RUNNING | canary.Outcome.PASSED:
            stage, reason = Stage.CANARY, "Step"
    told = progress_of(view, evidence, verdict.message)
    left = units.duration(step.duration) - elapsed
    pace = min(PACE, left) if left > 0 else PACE
    return Outcome(stage, reason, verdict.message, requeue=pace, lease=lease(view), canary=told)


def _canary_replaced(view: View) -> Outcome:
    kills = view.progress.kills + 1
    if kills > KILLS_FORGIVEN:
        return view.refuse("CanaryRestarts", f"the canary's pods were restarted or replaced {kills} times")
    return _evidence_again(view, kills, "the canary's pod was restarted or replaced")


def _evidence_again(view: View, kills: int, message: str) -> Outcome:
    progress = replace(view.progress, step=None, broken=None, settled="", kills=kills)
    return replace(_waiting(view, "EvidenceRestarted", message), progress=progress)


def _failed(view: View, verdict: Verdict, evidence: Evidence, *, confirmed: bool) -> Outcome:
    """Go back, if the canary can be seen to have lived through it; a killed pod is no bad model."""
    if confirmed:
        told = progress_of(view, evidence, verdict.message)
        return replace(view.refuse(verdict.reason, verdict.message), canary=told)
    progress = replace(view.progress, broken=BrokenGate(verdict.reason, verdict.message))
    return replace(_confirming(view, evidence, verdict.message), progress=progress)


def confirming(view: View) -> Outcome | None:
    """Find out whether the model is to blame for a gate it broke; no caller is sent to it meanwhile.

    A pod that hangs gets unready and is ended by its kubelet at last: what is known already must outlive that.
    """
    broken, state = view.progress.broken, view.progress.step
    if broken is None or state is None or view.deployment(view.order.revision) is None:
        return None
    pods = view.pods(view.order.revision)
    for pod in pods:  # how it ended says more than what the callers' pods saw of it
        if pod.trouble is not None and pod.trouble.cause is Cause.MODEL:
            return view.refuse(pod.trouble.reason, pod.trouble.message)
    evidence = canary.gather(state.id, [pod.health for pod in view.ready(view.active)])
    fresh, known = _starts(pods), {life.partition("/")[0] for life in state.lives}
    if fresh == state.lives or view.spent(_token(view)) > CONFIRM:
        told = progress_of(view, evidence, broken.message)
        return replace(view.refuse(broken.reason, broken.message), canary=told)
    gone = {pod.uid for pod in pods} != known or any(pod.killed and not pod.ready for pod in pods)
    if gone or fresh is not None:
        return _canary_replaced(view)
    return _confirming(view, evidence, broken.message)


def _token(view: View) -> str:
    return f"confirm/{view.progress.steps_opened}"


def _confirming(view: View, evidence: Evidence, message: str) -> Outcome:
    shared = lease(view)
    # the step stays, or the serving pods would forget what they saw
    silent = None if shared is None else replace(shared, shadow=0, weight=0)
    waiting = replace(_waiting(view, "Confirming"), message=message, token=_token(view), counting=True)
    return replace(waiting, lease=silent, canary=progress_of(view, evidence, message))


def _passed(view: View, verdict: Verdict, evidence: Evidence) -> Outcome:
    """Go on to the next step. After the last one its traffic goes on until the selector has moved."""
    index = view.progress.index + 1
    last = index >= len(view.order.canary.steps)
    progress = replace(view.progress, index=index, step=view.progress.step if last else None)
    told = progress_of(view, evidence, verdict.message)
    reason = verdict.reason or "StepPassed"
    held = lease(view) if last else None
    return Outcome(
        Stage.CANARY, reason, verdict.message, requeue=0.0, progress=progress, lease=held, canary=told
    )
