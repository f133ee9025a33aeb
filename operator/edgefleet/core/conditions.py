"""Conditions as kstatus reads them: Ready, Reconciling and Stalled, of which at most one is True."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from edgefleet.core import units
from edgefleet.core.order import Condition

READY: Final = "Ready"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"
TRUE: Final = "True"
FALSE: Final = "False"
UNKNOWN: Final = "Unknown"
MESSAGE_LIMIT: Final = 4000
"""Characters; messages of sites end up in ours."""

State = tuple[str, str, str]
"""Status, reason, message of one condition."""


def ready(reason: str, message: str) -> dict[str, State]:
    """All is as the spec asks."""
    return _three(TRUE, FALSE, FALSE, reason, message)


def reconciling(reason: str, message: str) -> dict[str, State]:
    """On the way, and it moves by itself."""
    return _three(FALSE, TRUE, FALSE, reason, message)


def stalled(reason: str, message: str) -> dict[str, State]:
    """Only a person can move it; the message says what to do."""
    return _three(FALSE, FALSE, TRUE, reason, message)


def build(
    states: Mapping[str, State], before: Iterable[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Conditions whose `lastTransitionTime` moves only with their status."""
    known = {condition.type: condition for condition in before}
    return tuple(
        Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message[:MESSAGE_LIMIT],
            last_transition_time=_since(known.get(kind), status, now),
            observed_generation=generation,
        )
        for kind, (status, reason, message) in states.items()
    )


def status_of(conditions: Iterable[Condition], kind: str) -> str:
    """Status of a condition; empty when there is none."""
    for condition in conditions:
        if condition.type == kind:
            return condition.status
    return ""


def _since(before: Condition | None, status: str, now: datetime) -> str:
    same = before is not None and before.status == status
    return before.last_transition_time if before is not None and same else units.timestamp(now)


def _three(
    is_ready: str, is_reconciling: str, is_stalled: str, reason: str, message: str
) -> dict[str, State]:
    return {
        READY: (is_ready, reason, message),
        RECONCILING: (is_reconciling, reason, message if is_reconciling == TRUE else ""),
        STALLED: (is_stalled, reason, message if is_stalled == TRUE else ""),
    }
