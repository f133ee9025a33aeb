"""Reads the windows people write (cron, duration, time zone) and says whether they are open: for hub, agent and command line.

The only place that knows a cron library and time zones. Durations are elapsed time: a window of four hours lasts four
hours on the night the clocks change. A start that such a night skips is made up for right after it, one that comes twice
counts once (cron of Debian). What was found is kept until the schedule's next start, so a look costs next to nothing.
"""

import functools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from edgefleet.core import units
from edgefleet.core.seen import AgentObject, SiteObject, SpecError
from edgefleet.core.specs import SiteSpec, SiteWindows, TimeWindow
from edgefleet.core.window import ALWAYS, NO_WINDOWS, SHUT, UNREADABLE, UNTRUSTED, Window, Windows

SHORTEST: Final = 60.0
LONGEST: Final = 744 * 3600.0
"""Seconds a window may last."""
_FIELDS: Final = 5
_SLACK: Final = timedelta(hours=3)
"""More than any change of the clocks: around one, local times alone do not say which start came first."""
_KEPT: Final = 4096
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_Starts = tuple[datetime, datetime | None]
"""The latest start not after a moment, and the first one after it."""


def problem(windows: SiteWindows) -> str:
    """Say what is wrong with windows, beginning with the field; empty: nothing."""
    for kind, listed in (("download", windows.download), ("update", windows.update)):
        for index, window in enumerate(listed):
            for field, wrong in _problems(window):
                return f"spec.windows.{kind}[{index}].{field}: {wrong}"
    return ""


@functools.lru_cache(maxsize=256)
def evaluate(windows: SiteWindows, now: datetime, untrusted: str = "") -> Windows:
    """Look at a site's windows; sites with the same ones are looked at together. `untrusted` says why the clock behind `now` is not believed: then none is open.

    Raises ValueError for windows `problem` objects to.
    """
    download, update = (
        ALWAYS if not listed else SHUT if untrusted else look(listed, now)
        for listed in (windows.download, windows.update)
    )
    if untrusted and (windows.download or windows.update):
        return Windows(download, update, UNTRUSTED, untrusted)
    return Windows(download, update)


def checked(site: SiteObject) -> SiteObject:
    """A site whose spec is an error if its windows cannot be read."""
    wrong = problem(site.spec.windows) if isinstance(site.spec, SiteSpec) else ""
    return replace(site, spec=SpecError(wrong)) if wrong else site


def of_agent(agent: AgentObject | None, now: datetime) -> Windows:
    """A site's windows as the hub believes them: by the policy that was delivered, which is what the site goes by."""
    policy = agent.spec if agent is not None else None
    if policy is None or policy.windows is None:
        return NO_WINDOWS
    try:
        return evaluate(policy.windows, now)
    except ValueError as error:
        return Windows(SHUT, SHUT, UNREADABLE, str(error))


def look(windows: tuple[TimeWindow, ...], now: datetime) -> Window:
    """Whether one of some windows is open. Raises ValueError for one that cannot be read."""
    ends, starts = [], []
    for window in windows:
        before, after = _kept_starts(window.schedule, window.time_zone, now)
        end = before + timedelta(seconds=units.duration(window.duration)) if before is not _NEVER else _NEVER
        if now < end:
            ends.append(end)
        if after is not None:
            starts.append(after)
    if ends:
        return Window(open=True, changes_at=max(ends))
    return Window(open=False, changes_at=min(starts, default=None))


def _problems(window: TimeWindow) -> Iterator[tuple[str, str]]:
    try:
        length = units.duration(window.duration)
        if not SHORTEST <= length <= LONGEST:
            yield "duration", f"{window.duration!r} must be from 1m to 744h"
    except ValueError as error:
        yield "duration", str(error)
    try:
        _zone(window.time_zone)
    except ValueError as error:
        yield "timeZone", str(error)
        return
    try:
        _, after = _kept_starts(window.schedule, window.time_zone, datetime.now(UTC))
    except ValueError as error:
        yield "schedule", str(error)
        return
    if after is None:
        yield "schedule", f"{window.schedule!r} never comes: no day of the next 50 years matches"


# -- starts ---------------------------------------------------------------------------------------------
_known: dict[tuple[str, str], _Starts] = {}


def _kept_starts(schedule: str, zone: str, now: datetime) -> _Starts:
    """The starts around a moment, as found before if that still holds."""
    found = _known.get((schedule, zone))
    if found is None or not found[0] <= now or (found[1] is not None and now >= found[1]):
        if len(_known) >= _KEPT:
            _known.clear()
        found = _known[schedule, zone] = starts(schedule, zone, now)
    return found


def starts(schedule: str, zone: str, now: datetime) -> _Starts:
    """The latest start not after `now` and the first one after it. Raises ValueError naming what cannot be read."""
    try:
        return _starts(schedule, _zone(zone), now)
    except OverflowError as error:
        raise ValueError(f"no calendar knows {now.isoformat()}") from error


def _starts(schedule: str, place: ZoneInfo, now: datetime) -> _Starts:
    before = after = None
    back = _sim(schedule, (now + _SLACK).astimezone(place), reverse=True)
    for start in _in_utc(back):
        if start <= now:
            before = start
            break
    ahead = _sim(schedule, (now - _SLACK).astimezone(place))
    for start in _in_utc(ahead):
        if start > now:
            after = start
            break
        before = max(before or start, start)
    return before or _NEVER, after


def _in_utc(found: CronSim) -> Iterator[datetime]:
    for start in found:
        yield start.astimezone(UTC)


def _sim(schedule: str, moment: datetime, *, reverse: bool = False) -> CronSim:
    if len(schedule.split()) != _FIELDS:
        raise ValueError(
            f"{schedule!r} must have {_FIELDS} fields: minute, hour, day of month, month, day of week"
        )
    try:
        return CronSim(schedule, moment, reverse)
    except CronSimError as error:
        raise ValueError(f"{schedule!r} is no schedule: {str(error)[:1].lower()}{str(error)[1:]}") from error


@functools.lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone of the IANA list, such as Europe/Berlin") from error
