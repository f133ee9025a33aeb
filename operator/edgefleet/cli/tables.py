"""Columns and ages, the way kubectl shows them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from edgefleet.core import units


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Align rows below a header; an empty cell shows as `-`."""
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def age(text: str | None, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, in its largest unit, e.g. `5m`; empty for none."""
    if not text:
        return ""
    seconds = int(((now or datetime.now(UTC)) - units.instant(text)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


def condition(raw: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """One condition of an object; empty when it is not there."""
    found: Iterable[Mapping[str, Any]] = (raw.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), {})


def path(raw: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted path of an object; None when there is none."""
    value: Any = raw
    for key in dotted.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else str(value)
