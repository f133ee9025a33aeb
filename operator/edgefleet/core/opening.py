"""Windows as the hub goes by them: who may be offered something now, who waits for one, and when to look again.

An offer to a site that cannot begin at once (its model is staged, or its window is about to open) is one to a site that
begins by itself later, together with all others of that night. So many wait at most as may be at work at a time.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from edgefleet.core import units, window
from edgefleet.core.fleet import SiteView
from edgefleet.core.order import Stage
from edgefleet.core.verdict import Verdict
from edgefleet.core.window import NO_WINDOWS

_HELD: Final = Verdict.HELD
_HEALTHY: Final = Verdict.HEALTHY


def may_offer(view: SiteView, now: datetime) -> bool:
    """Whether a site could do something with an offer: fetch the model, now or very soon."""
    return view.windows is NO_WINDOWS or view.windows.download.soon(now)


def choose(views: Iterable[SiteView], most: int, ahead: int, now: datetime) -> list[SiteView]:
    """Pick at most `most` sites to offer something, in order; those that cannot begin at once only while `ahead` are not full."""
    chosen: list[SiteView] = []
    for view in views:
        if len(chosen) >= most:
            break
        windows = view.windows
        at_once = windows is NO_WINDOWS or (windows.download.open and windows.update.open)
        if at_once or (windows.download.soon(now) and len(chosen) < ahead):
            chosen.append(view)
    return chosen


def patient(views: Iterable[SiteView], verdicts: Mapping[str, Verdict]) -> int:
    """How many sites begin by themselves once their window opens."""
    held = [view for view in views if verdicts.get(view.name) is _HELD]
    return sum(view.report.reason == window.CLOSED for view in held)


def told(members: Sequence[SiteView], shut: Sequence[SiteView]) -> str:
    """Say how many sites wait for windows and when the next opens: admitted ones, and those not offered anything yet."""
    count = len(members) + len(shut)
    text = f"{count} waiting for {'its window' if count == 1 else 'their windows'}"
    opens = [_opens(view) for view in members] + [view.windows.download.changes_at for view in shut]
    known = [moment for moment in opens if moment is not None]
    if known:
        text += f", the next opens at {units.timestamp(min(known))}"
    lost = sum(view.report.reason != window.CLOSED for view in members)
    return f"{text}, {lost} of them cannot judge it (clock or agent)" if lost else text


def looks(views: Iterable[SiteView], verdicts: Mapping[str, Verdict], now: datetime) -> float | None:
    """Seconds until a window may change what is offered or told. None: never."""
    found = (
        view.windows.looks(now)
        for view in views
        if view.windows is not NO_WINDOWS and verdicts.get(view.name) is not _HEALTHY
    )
    return min((seconds for seconds in found if seconds is not None), default=None)


def obeys(view: SiteView) -> bool:
    """Whether a site has windows and its agent says what it makes of them."""
    agent = view.site.agent if view.site is not None else None
    if agent is None or agent.spec is None:
        return False
    return agent.spec.windows is not None and agent.status.windows is not None


def _opens(view: SiteView) -> datetime | None:
    windows = view.windows
    shut = windows.update if view.report.stage == Stage.STAGED else windows.download
    return None if shut.open else shut.changes_at
