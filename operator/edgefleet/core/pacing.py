"""How many offers may be made now: at a rate that grows with success, counted from the orders' `offeredAt`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from edgefleet.core import units
from edgefleet.core.specs import Rate

MINUTE: Final = 60.0
GRAIN: Final = 1.0
"""Seconds; orders tell no shorter time."""


def problems(path: str, rate: Rate) -> Iterator[str]:
    """What is wrong with `spec.rollout.rate`, each with its field."""
    for field, number in (
        ("perMinute", rate.per_minute),
        ("factor", rate.factor),
        ("every", rate.every),
        ("maxPerMinute", rate.max_per_minute),
    ):
        if number < 1:
            yield f"{path}.{field}: {number} must be 1 or more"
    if rate.max_per_minute < rate.per_minute:
        yield f"{path}.maxPerMinute: {rate.max_per_minute} must not be below perMinute ({rate.per_minute})"
    plain = Rate(per_minute=rate.per_minute)
    if rate.factor == 1 and (rate.every, rate.max_per_minute) != (plain.every, plain.max_per_minute):
        yield f"{path}: every and maxPerMinute must be left out when factor is 1: the rate does not grow"


def per_minute(rate: Rate, healthy: int) -> int:
    """Offers per minute once so many sites of the rollout are healthy."""
    allowed = rate.per_minute
    for _ in range(healthy // rate.every if rate.factor > 1 else 0):
        if allowed >= rate.max_per_minute:
            break
        allowed *= rate.factor
    return min(allowed, rate.max_per_minute)


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `allowed` offers in any `window` of seconds."""

    allowed: int
    window: float
    recent: tuple[datetime, ...]
    """Offers of the window that ends now, oldest first."""
    now: datetime

    @property
    def room(self) -> int:
        """Offers that may be made now."""
        return max(0, self.allowed - len(self.recent))

    def next_at(self, made: int) -> datetime | None:
        """When another offer may be made, after so many now. None: now."""
        times = (*self.recent, *[self.now] * made)
        if len(times) < self.allowed:
            return None
        return times[len(times) - self.allowed] + timedelta(seconds=self.window + GRAIN)


def pace(allowed: int, window: float, offered_at: Iterable[str], now: datetime) -> Pace:
    """Count the offers of the last `window` seconds. Those a clock that was set back puts in the future count as new."""
    since = units.timestamp(now - timedelta(seconds=window))
    recent = sorted(min(units.instant(text), now) for text in offered_at if text >= since)
    return Pace(allowed, window, tuple(recent), now)
