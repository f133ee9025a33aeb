"""What a site does not begin while its windows are closed, or while it is cordoned.

Closed are only beginnings: of a download, of a self-test, of the new pods. What runs goes on, or a canary would hang
between two revisions until the next night; and the way back is never closed.
"""

from dataclasses import replace
from typing import Final

from edgefleet.core import units
from edgefleet.core.local import Fetching, FetchPaused, StopFetch
from edgefleet.core.local_view import Outcome, View
from edgefleet.core.order import Stage
from edgefleet.core.window import Window

_LONGEST: Final = 60.0
"""Seconds between looks at a closed window: clocks are set, policies change."""
_SHORTEST: Final = 1.0


def no_download(view: View) -> Outcome | None:
    """Leave the bundle where it is until the download window opens; None: it may be fetched now."""
    window = view.seen.windows.download
    cordoned = _cordoned(view)
    if cordoned is None and (window.open or view.begun or view.going_back):
        return None
    state = view.seen.fetch
    waiting = cordoned or _waiting(view, Stage.WAITING, window, "download")
    if isinstance(state, Fetching):
        why = "the site is cordoned" if cordoned is not None else "the download window has closed"
        return replace(waiting, action=StopFetch(), why=why, download=state.download)
    return replace(waiting, download=state.download) if isinstance(state, FetchPaused) else waiting


def no_update(view: View) -> Outcome | None:
    """Keep what is staged until the update window opens; None: the next part of the installation may begin now."""
    if (cordoned := _cordoned(view)) is not None:
        return cordoned
    window = view.seen.windows.update
    begun = view.deployment(view.order.revision) is not None or view.swapping
    if window.open or begun or view.going_back:
        return None
    return _waiting(view, Stage.STAGED, window, "update")


def _cordoned(view: View) -> Outcome | None:
    """A cordoned site begins nothing new, heard or not; what it has begun goes on."""
    if not view.seen.cordoned or view.begun or view.going_back:
        return None
    text = "the site is cordoned: nothing new is begun until spec.cordoned of its EdgeSite is false"
    return Outcome(Stage.WAITING, "Cordoned", text, requeue=_LONGEST)


def _waiting(view: View, stage: Stage, window: Window, kind: str) -> Outcome:
    windows = view.seen.windows
    if windows.trouble:
        text = f"no {kind} window is open: {windows.trouble}; going back needs none"
    elif window.changes_at is None:
        text = f"the {kind} window is closed, and no time is known at which it opens"
    else:
        text = f"the {kind} window opens at {units.timestamp(window.changes_at)}"
    return Outcome(stage, windows.reason, text, requeue=_until(view, window))


def _until(view: View, window: Window) -> float:
    if window.changes_at is None:
        return _LONGEST
    left = (window.changes_at - view.moment).total_seconds()
    return min(_LONGEST, max(_SHORTEST, left))
