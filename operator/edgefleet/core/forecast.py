"""Which wave would take which site, if every site did well: what the waves would do from now on, without doing it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from edgefleet.core import model_pass, placement, units, walking, waves
from edgefleet.core.decisions import RolloutCreate
from edgefleet.core.fleet import SiteView
from edgefleet.core.model_pass import Reasoning
from edgefleet.core.seen import Meta, ModelSeen, RolloutObject
from edgefleet.core.specs import Wave
from edgefleet.core.statuses import RolloutStatus, WaveStatus
from edgefleet.core.waves import Look


@dataclass(frozen=True, slots=True)
class Coming:
    """One wave as it is, or as it would be."""

    wave: Wave
    status: WaveStatus | None
    """None: it has not begun."""
    sites: tuple[str, ...]
    """Admitted to it, and those it would take, in the order in which it would."""


def reason_ahead(found: Reasoning, seen: ModelSeen, now: datetime) -> Reasoning:
    """The operator's reasoning, given `found` of now, with the attempt that is due already made: what its next but one pass would think."""
    made = tuple(_made(seen, item) for item in found.decision.create_rollouts)
    if not made:
        return found
    return model_pass.reason_about(replace(seen, rollouts=(*seen.rollouts, *made)), now) or found


def _made(seen: ModelSeen, create: RolloutCreate) -> RolloutObject:
    meta = Meta(create.name, seen.namespace, labels=create.labels, annotations=create.annotations)
    return RolloutObject(meta, create.spec, RolloutStatus())


def waves_to_come(found: Reasoning) -> tuple[Coming, ...]:
    """The waves of the running rollout and their sites, after the pass that is due; none without a running rollout.

    A site that is not heard is listed where it would be taken when it returns.
    """
    look = found.look
    if look is None:
        return ()
    name = look.rollout.meta.name
    written = (item.status for item in found.decision.patch_rollouts if item.name == name)
    status_after = next((item for item in written if item is not None), look.rollout.status)
    known = {status.name: status for status in status_after.waves}
    admitted = {item.site: item.order.wave for item in found.decision.orders if item.order.rollout == name}
    left = {
        view.name: view
        for view in look.fleet.counted
        if view.name not in look.verdicts
        and view.name not in admitted
        and view.name not in look.refusing
        and view.readable
    }
    wave_of = {view.name: view.running.wave if view.running else "" for view in look.fleet.counted} | admitted
    members_of = dict.fromkeys((*look.verdicts, *admitted))
    coming = []
    for wave in waves.effective(look.policy, look.rollout):
        status = known.get(wave.name)
        members = tuple(name for name in members_of if wave_of[name] == wave.name)
        taken = () if status is not None and status.completed_at else _taken(look, wave, status, left)
        for view in taken:
            del left[view.name]
        coming.append(Coming(wave, status, (*members, *(view.name for view in taken))))
    return tuple(coming)


def _taken(
    look: Look, wave: Wave, status: WaveStatus | None, left: Mapping[str, SiteView]
) -> tuple[SiteView, ...]:
    candidates = sorted(
        (
            view
            for view in left.values()
            if wave.site_selector is None or placement.matches(wave.site_selector, view.labels)
        ),
        key=lambda view: walking.turn(look, view),
    )
    if wave.limit is None:
        return tuple(candidates)
    limit, admitted = units.at_least(wave.limit, len(look.fleet.counted)), 0
    if status is not None:
        limit, admitted = status.limit, status.admitted
    return tuple(candidates[: max(0, limit - admitted)])
