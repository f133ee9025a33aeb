"""A site in memory that looks over the agent's shoulder: what every decision and every step must keep to."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
from edgefleet.core import names
from edgefleet.core.local import (
    Create,
    Delete,
    LocalDecision,
    LocalSeen,
    Patch,
    Remember,
    StartFetch,
    StopFetch,
    Wait,
)
from edgefleet.core.local_view import View
from edgefleet.core.order import State, Surge, Swap
from edgefleet.core.site_pass import decide_local
from edgefleet.core.window import NO_WINDOWS
from support.site import Site

_S = TypeVar("_S", bound=msgspec.Struct)


class Watched(Site):
    """A site that looks over the agent's shoulder."""

    def decide(self) -> LocalDecision:
        decision, seen = super().decide(), self.see()
        for step in (timedelta(days=-400), timedelta(days=4000)):
            other = decide_local(seen, self.now, self.moment + step)
            assert _timeless(other) == _timeless(decision), "I12: a clock step changed a verdict"
        if seen.windows != NO_WINDOWS and seen.order is not None:
            self._gated_only(decision, seen)
        return decision

    def _gated_only(self, decision: LocalDecision, seen: LocalSeen) -> None:
        """Closed windows hold up beginnings, and nothing that leads back."""
        wanted = seen.order
        assert wanted is not None
        free = decide_local(replace(seen, windows=NO_WINDOWS), self.now, self.moment)
        if _timeless(free) == _timeless(decision):
            return
        view = View(seen, self.now, self.moment)
        assert not view.going_back, "I5: the way back is gated"
        assert self.record.refusal_of(wanted.revision, wanted.attempt) is None, "I5: leaving is gated"
        assert isinstance(decision.action, Wait | StopFetch)
        match free.action:
            case StartFetch() | Create(kind="Job"):
                assert view.deployment(wanted.revision) is None, "a canary under way is gated"
            case Create(kind="Deployment", manifest=manifest):
                assert manifest["metadata"]["labels"][names.REVISION] == wanted.revision != self.selected
            case Wait():
                assert isinstance(decision.action, StopFetch)
            case _:
                raise AssertionError(f"a window held up {free.why}")

    def _window(self, decision: LocalDecision) -> None:
        """What is begun is begun inside its window."""
        wanted = self.order
        if wanted is None or wanted.revision == self.selected or View(self.see(), 0, self.moment).going_back:
            return
        pods = ("Deployment", f"team-digits-{wanted.revision}") in self.objects
        match decision.action:
            case StartFetch():
                begun = pods or any(kind == "Job" for kind, _ in self.objects)
                assert self.windows.download.open or begun, "a download is begun outside its window"
            case Create(kind="Job"):
                assert self.windows.update.open or pods, "a self-test is begun outside the window"
            case Create(kind="Deployment", manifest=manifest):
                of = manifest["metadata"]["labels"][names.REVISION]
                assert self.windows.update.open or of != wanted.revision, "pods are begun outside the window"
            case Remember(record) if record.swap is not None and record.swap.gap_seconds is None:
                declared = self.record.swap is not None and self.record.swap.since == record.swap.since
                assert self.windows.update.open or declared, "a swap is begun outside the window"
            case _:
                pass

    def apply(self, decision: LocalDecision) -> None:
        self._window(decision)
        served = bool(self.ready(self.selected))
        self._promises(decision)
        super().apply(decision)
        if served and not self.ready(self.selected) and not self.behaviours[self.selected].fades:
            assert self._swaps(), f"I10: nothing ready is selected any more: {decision.why}"

    def _promises(self, decision: LocalDecision) -> None:
        match decision.action:
            case Create(kind="Service", manifest=manifest) if manifest["metadata"]["name"] == "team-digits":
                chosen = manifest["spec"]["selector"][names.REVISION]
                assert chosen in self.good() or not self.good(), (
                    f"I10: a Service for {chosen}, which is not ready"
                )
            case Create(kind="Deployment", manifest=manifest):
                self._may_start(manifest["metadata"]["labels"][names.REVISION])
            case Patch(kind="Service", name="team-digits", body=body):
                chosen = body["spec"]["selector"][names.REVISION]
                led_astray = self.record.served_as(self.selected) is None and not self.good()
                assert self.ready(chosen) or led_astray, (
                    f"I10: the Service is to select {chosen}, which has no ready pod"
                )
            case Patch(kind="Deployment", name=name, body=body) if name.endswith(f"-{self.selected}"):
                assert body["spec"]["replicas"] >= 1 or self._swaps(), "I6: scaled what serves to nothing"
            case Delete(kind="Deployment", name=name):
                self._may_go(name.rsplit("-", 1)[1])
            case _:
                pass

    def good(self) -> list[str]:
        """Revisions that passed everything here, were not refused since, and are ready."""
        record = self.record
        return [
            item.revision
            for item in record.served
            if record.refusal_of(item.revision, item.order.attempt) is None and self.ready(item.revision)
        ]

    def _swaps(self) -> bool:
        """Whether the order allows a gap, the journal has declared it, and there is no room for both."""
        wanted, declared = self.order, self.record.swap
        assert wanted is not None
        assert self.room is not None, "a swap where both would fit"
        return (
            wanted.canary.surge is Surge.PREFERRED
            and declared is not None
            and declared.gap_seconds is None
            and (declared.revision, declared.attempt) == (wanted.revision, wanted.attempt)
        )

    def _may_start(self, revision: str) -> None:
        wanted = self.order
        assert wanted is not None
        if revision == wanted.revision and revision != self.selected:
            assert self.record.refusal_of(revision, wanted.attempt) is None, (
                "I1: a refused revision is started"
            )

    def _may_go(self, revision: str) -> None:
        wanted = self.order
        if wanted is not None and wanted.state is State.REMOVE:
            return
        assert revision != self.selected, "I6: what serves is deleted"
        declared = self.record.swap
        if declared is not None and declared.gap_seconds is None:
            return  # the newcomer of a swap that is called off makes place again
        if self.record.served_as(revision) is not None and self.ready(revision):
            assert self.ready(self.selected), "I6: the last ready revision is deleted"


def _timeless(decision: LocalDecision) -> tuple[Any, ...]:
    """A decision without the times it stamps, and without the gap it measures by them if the agent died in it."""
    action, report = decision.action, decision.report
    if isinstance(action, Remember):
        refused = tuple(changed(item, time="") for item in action.record.refused)
        action = Remember(changed(action.record, refused=refused, swap=_timeless_swap(action.record.swap)))
    swap = _timeless_swap(report.swap)
    untold = {"message": ""} if swap is not None and swap.gap_seconds is not None else {}
    conditions = tuple(changed(item, last_transition_time="", **untold) for item in report.conditions)
    refused = tuple(changed(item, time="") for item in report.refused)
    told = changed(report, conditions=conditions, refused=refused, swap=swap, **untold)
    return action, told, decision.progress, decision.leases


def _timeless_swap(swap: Swap | None) -> Swap | None:
    if swap is None:
        return None
    return changed(swap, since="", gap_seconds=None if swap.gap_seconds is None else 0.0)


def changed(wanted: _S, **fields: Any) -> _S:
    """The same struct with some fields changed."""
    return msgspec.structs.replace(wanted, **fields)
