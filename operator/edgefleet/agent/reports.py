"""Which reports are worth a write: changes that matter at once, figures that only count once an hour."""

import random
from dataclasses import dataclass
from typing import Final

import msgspec

from edgefleet.core.order import CanaryProgress, Report, Stage, Traffic

COUNTS_EVERY: Final = 3600.0
"""Seconds between reports in which only figures differ: each costs the link 9 KB, as it comes back by the watch."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The report that was sent last, and the monotonic time in seconds when counts alone are worth another."""

    report: Report
    counts_due: float


def substance(report: Report) -> Report:
    """Return the report without what only counts: traffic, bytes so far, requests of a canary step."""
    canary = report.canary
    if canary is not None:
        canary = CanaryProgress(
            step=canary.step, steps=canary.steps, shadow=canary.shadow, weight=canary.weight
        )
    moving = report.download is not None and report.download.done < report.download.total
    counting = report.stage in (Stage.CANARY, Stage.HELD)  # its messages count requests and seconds
    return msgspec.structs.replace(
        report,
        traffic=None,
        canary=canary,
        download=None if moving else report.download,
        message="" if counting else report.message,
        conditions=tuple(
            msgspec.structs.replace(item, message="" if counting else item.message)
            for item in report.conditions
        ),
        reported_at="",
    )


def due(report: Report, sent: Sent | None, now: float) -> bool:
    """Return whether a report should go up now. `now` is monotonic seconds."""
    if sent is None or substance(report) != substance(sent.report):
        return True
    return now >= sent.counts_due and (report.traffic or Traffic()) != (sent.report.traffic or Traffic())


def sent(report: Report, now: float) -> Sent:
    """Note that a report went up; the jitter keeps a fleet from counting in chorus."""
    return Sent(report, now + COUNTS_EVERY * random.uniform(1.0, 1.2))  # noqa: S311  jitter is no secret
