"""The report a site gives about one model, from what a pass saw and decided."""

from typing import Final

from edgepod.contract import quantile_ms

from edgefleet.core import canary, conditions
from edgefleet.core.local import JobSeen
from edgefleet.core.local_view import Outcome, View
from edgefleet.core.order import Condition, Report, SelfTest, Stage, State, Traffic

MESSAGE_CAP: Final = 1000
_STALLED: Final = frozenset({Stage.ROLLED_BACK, Stage.REJECTED})


def build(view: View, outcome: Outcome) -> Report:
    """Say what was seen. `reported_at` is left to whoever sends it."""
    bundle, version, variant = view.active_facts()
    identity = view.record.identity
    previous = [item.revision for item in view.record.served if item.revision != view.active]
    message = outcome.message[:MESSAGE_CAP]
    return Report(
        observed_generation=identity.generation if identity is not None else -1,
        order=identity,
        conditions=_conditions(view, outcome, message),
        stage=outcome.stage,
        reason=outcome.reason,
        message=message,
        active_revision=view.active,
        active_bundle=bundle,
        active_version=version,
        previous_revision=previous[-1] if previous and view.active else "",
        variant=variant or (view.staged.variant if view.staged is not None else ""),
        download=outcome.download or (view.staged.download if view.staged is not None else None),
        self_test=_self_test(view),
        canary=outcome.canary,
        traffic=_traffic(view),
        swap=view.record.swap,
        refused=view.record.refused,
    )


def self_test_of(job: JobSeen) -> SelfTest | None:
    """Turn the pod's own report into ours."""
    found = job.report
    if found is None:
        return None
    return SelfTest(
        revision=job.revision,
        passed=found.passed,
        agreement=found.agreement,
        accuracy=found.accuracy,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        peak_mib=found.peak_mib,
        reason=found.reason,
    )


def _self_test(view: View) -> SelfTest | None:
    if view.seen.order is None:
        return None
    job = view.job()
    found = self_test_of(job) if job is not None else None
    if found is None:
        served = view.record.served_as(view.order.revision)
        found = served.self_test if served is not None else None
    if found is None and view.seen.reported is not None:  # its Job is gone, and so is the revision
        told = view.seen.reported.self_test
        found = told if told is not None and told.revision == view.order.revision else None
    return found


def _traffic(view: View) -> Traffic | None:
    documents = [pod.health for pod in view.pods(view.active) if pod.health is not None]
    if not documents:
        return None
    latency = canary.add_histograms([item.served.latency for item in documents])
    return Traffic(
        requests=sum(item.served.requests for item in documents),
        errors=sum(item.served.errors for item in documents),
        p50_ms=quantile_ms(latency, 0.5),
        p99_ms=quantile_ms(latency, 0.99),
        bytes_in=sum(item.bytes_in for item in documents),
        bytes_out=sum(item.bytes_out for item in documents),
        bytes_out_raw=sum(item.bytes_out_raw for item in documents),
    )


def _conditions(view: View, outcome: Outcome, message: str) -> tuple[Condition, ...]:
    """Render Ready, Reconciling and Stalled the way kstatus reads them."""
    order, told, identity = view.seen.order, view.seen.reported, view.record.identity
    reason = outcome.reason or outcome.stage.value
    if outcome.stage is Stage.SERVING and outcome.reason == "Serving":
        states = conditions.ready(reason, message)
    elif outcome.stage in _STALLED and (order is None or order.state is State.RUN):
        states = conditions.stalled(reason, message)
    elif outcome.stage is Stage.REMOVED:
        states = dict.fromkeys(conditions.stalled("", ""), (conditions.FALSE, reason, message))
    else:
        states = conditions.reconciling(reason, message)
    before = told.conditions if told is not None else ()
    generation = identity.generation if identity is not None else 0
    return conditions.build(states, before, generation, view.moment)
