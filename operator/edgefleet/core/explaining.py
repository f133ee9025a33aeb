"""Why a model and its sites are as they are and what comes next, from the operator's own reasoning.

Nothing is judged here anew: this reads what `model_pass.reason_about` found and what `forecast` makes of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from edgefleet.core import conditions, forecast, model_pass, placement, targets, verdict
from edgefleet.core.attempts import Course
from edgefleet.core.decisions import OrderWrite
from edgefleet.core.fleet import SiteView
from edgefleet.core.forecast import Coming
from edgefleet.core.model_pass import Reasoning
from edgefleet.core.placement import Reason
from edgefleet.core.seen import BundleCheck, ModelObject, ModelSeen
from edgefleet.core.specs import ModelSpec
from edgefleet.core.status import ACCEPTED
from edgefleet.core.targets import Why
from edgefleet.core.verdict import Verdict

BY_ITSELF = "nobody: it moves by itself"
_ASK_A_PERSON = frozenset({"WaitingApproval", "NotEnoughSites", "Paused"})
"""Reasons that are no fault, yet wait for somebody."""


@dataclass(frozen=True, slots=True)
class Story:
    """One site of one model."""

    site: str
    standing: str
    """One word: a reason of `placement`, a verdict, Next, Waiting, Away, Refused or Behind."""
    message: str
    wave: str = ""
    """The wave it was, or would be, admitted to."""
    serves: str = ""
    ordered: str = ""
    next: str = ""
    """What the operator's next pass writes for it; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One model."""

    reason: str
    message: str
    stalled: bool
    """Only a person can move it."""
    acts: str
    """Who must act."""
    next: tuple[str, ...]
    """What the operator's next pass does; empty: nothing."""
    again: float | None
    """Seconds until it looks again if nothing happens before; None: at the next change."""
    waves: tuple[Coming, ...]
    stories: tuple[Story, ...]
    """Of all EdgeSites, and of those with an order left."""


def known_bundle(model: ModelObject) -> BundleCheck | None:
    """What the operator knows of the bundle, by what it wrote into the status; None: it has not looked it up."""
    known = model.status.bundle
    if not isinstance(model.spec, ModelSpec):
        return None
    found = {item.type: item for item in model.status.conditions}
    told = found.get(ACCEPTED)
    current = told is not None and told.observed_generation == model.meta.generation
    if told is not None and current and told.status == conditions.FALSE and told.reason != "UnknownVariant":
        ready = found.get(conditions.READY)
        for_good = ready is not None and ready.reason == "BundleInvalid"
        return BundleCheck(
            model.spec.bundle, ok=False, reason=told.reason, message=told.message, environment=not for_good
        )
    if known is None or known.reference != model.spec.bundle:
        return None
    names = tuple(item.name for item in known.variants)
    return BundleCheck(known.reference, ok=True, version=known.version, variants=names, needs=known.variants)


def explain(seen: ModelSeen, now: datetime) -> Explanation:
    """Explain an EdgeModel from what the operator would see now."""
    found = model_pass.reason_about(seen, now)
    return explain_reasoned(found, seen, now) if found is not None else _without_reasoning(seen, now)


def explain_reasoned(found: Reasoning, seen: ModelSeen, now: datetime) -> Explanation:
    """The same where the operator's reasoning over what is seen is known already."""
    coming = forecast.waves_to_come(forecast.reason_ahead(found, seen, now))
    wave_of = {site: item.wave.name for item in coming for site in item.sites}
    status = found.decision.status
    ready = {item.type: item for item in (status.conditions if status is not None else ())}
    reason, message = ready[conditions.READY].reason, ready[conditions.READY].message
    stalled = ready[conditions.STALLED].status == conditions.TRUE
    writes = {item.site: item for item in found.decision.orders}
    return Explanation(
        reason=reason,
        message=message,
        stalled=stalled,
        acts=_acts(stalled, reason),
        next=tuple(_next(found)),
        again=found.decision.requeue_after,
        waves=coming,
        stories=tuple(_story(found, view, wave_of, writes.get(view.name)) for view in found.fleet.views),
    )


def _without_reasoning(seen: ModelSeen, now: datetime) -> Explanation:
    """A model that goes, or that cannot be read."""
    decision = model_pass.decide_model(seen, now)
    if seen.model is not None and seen.model.meta.deleting:
        writes = [f"{item.reason} at {item.site}" for item in decision.orders]
        return Explanation(
            "Deleting",
            "it is being deleted; its orders are turned into spec.deletionPolicy first",
            False,
            BY_ITSELF,
            tuple(writes or ["let the EdgeModel go"]),
            decision.requeue_after,
            (),
            (),
        )
    said = decision.status.conditions if decision.status is not None else ()
    text = next((item.message for item in said if item.type == conditions.READY), "there is no EdgeModel")
    return Explanation("InvalidSpec", text, True, "whoever wrote the spec", (), None, (), ())


def _acts(stalled: bool, reason: str) -> str:
    if stalled or reason in _ASK_A_PERSON:
        return "a person"
    return BY_ITSELF


def _next(found: Reasoning) -> list[str]:
    """What the next pass does, one line for each kind of thing."""
    decision = found.decision
    lines = [
        f"make EdgeRollout {item.name}: attempt {item.spec.attempt}" for item in decision.create_rollouts
    ]
    ended = {item.meta.name: item.status.outcome for item in found.attempts.all}
    lines += [
        f"end {patch.name}: {patch.status.outcome.value}"
        for patch in decision.patch_rollouts
        if patch.status is not None and patch.status.outcome not in ("", ended.get(patch.name))
    ]
    by_reason: dict[str, list[str]] = {}
    for write in decision.orders:
        by_reason.setdefault(_order(write.reason, write.order.wave, write.order.revision), []).append(
            write.site
        )
    lines += [f"{what}: {_some(sites)}" for what, sites in by_reason.items()]
    if decision.delete_orders:
        lines.append(f"drop orders that are carried out: {_some([i.site for i in decision.delete_orders])}")
    return lines


def _order(reason: str, wave: str, revision: str) -> str:
    where = f" to wave {wave}" if wave and reason == "Admitted" else ""
    return f"write orders ({reason}{where}, revision {revision})"


def _some(sites: list[str], most: int = 5) -> str:
    more = f" and {len(sites) - most} more" if len(sites) > most else ""
    return ", ".join(sites[:most]) + more


# -- one site -------------------------------------------------------------------------------------------


def _story(found: Reasoning, view: SiteView, wave_of: Mapping[str, str], write: OrderWrite | None) -> Story:
    standing, message = _standing(found, view, wave_of, write)
    return Story(
        site=view.name,
        standing=standing,
        message=message,
        wave=wave_of.get(view.name, view.running.wave if view.running is not None else ""),
        serves=view.report.active_revision,
        ordered=view.order.revision if view.order is not None else "",
        next=_order(write.reason, write.order.wave, write.order.revision) if write is not None else "",
    )


def _standing(
    found: Reasoning, view: SiteView, wave_of: Mapping[str, str], write: OrderWrite | None
) -> tuple[str, str]:
    """Where a site stands with the revision asked for: the first thing that keeps it from serving that one."""
    if not view.counted:
        return view.fit.reason.value, _unchosen(found, view)
    if not view.readable:
        return "AgentTooOld", "its order cannot be read by this version"
    judged = found.verdicts.get(view.name)
    order = view.running
    wanted = found.intent.wanted.revision
    if order is not None and order.revision == wanted and judged is not None:
        return judged.value, _reported(view, judged)
    last = found.attempts.last_of(wanted)
    refusal = verdict.refusal(view.report, wanted, last.spec.attempt) if last is not None else None
    if refusal is not None:
        return "Refused", f"{refusal.reason}: {refusal.message}"
    if not view.online:
        return "Away", f"it is {view.connectivity.value.lower()}: it is asked when it is heard again"
    if write is not None:
        return "Next", "the operator's next pass writes its order"
    return _waiting(found, view, wave_of)


def _unchosen(found: Reasoning, view: SiteView) -> str:
    if view.fit.reason is Reason.NOT_SELECTED and view.site is not None:
        return placement.unmet(found.spec.placement.site_selector, view.labels) or view.fit.message
    return view.fit.message


def _reported(view: SiteView, judged: Verdict) -> str:
    report = view.report
    if judged is Verdict.HEALTHY:
        return "it serves the revision asked for"
    if judged is Verdict.UNREACHABLE:
        return f"it is {view.connectivity.value.lower()}, or silent about its order"
    said = f"{report.stage} {report.reason}".strip() or "it has not said anything about its order"
    return f"{said}: {report.message}" if report.message else said


def _waiting(found: Reasoning, view: SiteView, wave_of: Mapping[str, str]) -> tuple[str, str]:
    """A site that could be asked and has not been: for its wave, for its turn to catch up, or for a decision."""
    status = found.decision.status
    ready = next((i for i in (status.conditions if status is not None else ()) if i.type == "Ready"), None)
    because = f"{ready.reason}: {ready.message}" if ready is not None else ""
    wave = wave_of.get(view.name, "")
    if found.look is not None and wave:
        return "Waiting", f"for wave {wave}; the rollout is at {because}"
    if found.intent.course is Course.START:
        return "Waiting", f"for wave {wave}; the rollout is about to start" if wave else because
    target = targets.target(view, found.attempts, admitted=False)
    if target.why is Why.CURRENT and target.rollout is not None:
        good = target.rollout.spec.revision
        if view.running is not None and view.running.revision == good:
            return "Waiting", f"it is on revision {good}, the newest good one; {because}"
        held = found.orders.broken or "its turn comes, so many sites at a time"
        return "Behind", f"it is to catch up with revision {good}: {held}"
    return "Waiting", because
