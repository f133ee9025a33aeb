"""Durations, shares, counts, quantities and instants as people write them in specs, turned into numbers.

Every function raises ValueError with a message that names the text and says what it must look like.
"""

import functools
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SHARE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?")
_FACTORS: Final = {
    "": 1.0,
    "m": 0.001,
    "k": 1e3,
    "Ki": 2.0**10,
    "M": 1e6,
    "Mi": 2.0**20,
    "G": 1e9,
    "Gi": 2.0**30,
    "T": 1e12,
    "Ti": 2.0**40,
    "P": 1e15,
    "Pi": 2.0**50,
}


@functools.lru_cache(maxsize=1024)
def duration(text: str) -> float:
    """Seconds of a duration such as `50ms`, `90s`, `5m`, `1h30m` or `7d`."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write it like 50ms, 90s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def share(text: str) -> float:
    """The share, 0 to 1, of a text such as `1%` or `99.5%`."""
    match = _SHARE.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise ValueError(f"{text!r} is not a share: write it like 1% or 99.5%, at most 100%")
    return float(match[1]) / 100


def check_count_or_share(value: int | str) -> None:
    """Raise ValueError unless the value is a count (0 or more) or a share such as `5%`."""
    if isinstance(value, str):
        share(value)
    elif value < 0:
        raise ValueError(f"{value} is neither a count of 0 or more nor a share such as 5%")


def at_least(value: int | str, total: int) -> int:
    """A count or a share of `total`, rounded up and never under 1: for what must be reached or taken."""
    return max(1, value if isinstance(value, int) else _ceil(share(value) * total))


def at_most(value: int | str, total: int) -> int:
    """A count or a share of `total`, rounded down: for what may not be passed."""
    return value if isinstance(value, int) else math.floor(round(share(value) * total, 9))


def quantity(text: str) -> float:
    """The number of a Kubernetes quantity such as `256Mi` (bytes) or `500m` (cores)."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity: write it like 256Mi or 500m")
    return float(match[1]) * _FACTORS[match[2] or ""]


@functools.lru_cache(maxsize=4096)
def instant(text: str) -> datetime:
    """An RFC 3339 time, always with its zone. Kept a while: the sites of a fleet name the same seconds."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2026-01-31T12:00:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds: the form Kubernetes gives its own times."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def later(text: str, by: timedelta) -> str:
    """The instant `by` after another one, as text."""
    return timestamp(instant(text) + by)


def _ceil(value: float) -> int:
    """Round up, but not because of what binary fractions do to 7 % of 100."""
    return math.ceil(round(value, 9))
