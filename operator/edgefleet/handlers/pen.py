"""Writes statuses by difference, and figures alone not more often than every few seconds."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from edgefleet.core.statuses import Status
from edgefleet.kube import apply
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind

FIGURES_EVERY: Final = 5.0
"""Least seconds between two writes of an object's status that change figures only."""

_REMEMBERED: Final = 2048
_FIGURES: Final = frozenset({"sites", "counts", "models", "inventory", "lastSeen"})
_WAVE_FIGURES: Final = frozenset({"healthy", "blocked", "unreachable"})


def to_raw(value: object) -> Any:
    """A struct as plain dictionaries and lists, without the fields that are None."""
    return _lean(msgspec.to_builtins(value))


def _lean(value: Any) -> Any:
    if isinstance(value, dict):  # to ask for a Mapping takes five times as long, and this is asked most
        return {key: _lean(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_lean(inner) for inner in value]
    return value


def figures_only(live: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
    """Whether nothing but figures differ, so that the write can wait."""
    differing = {key for key in live.keys() | want.keys() if live.get(key) != want.get(key)} - _FIGURES
    if "conditions" in differing and _without_words(live) == _without_words(want):
        differing.discard("conditions")
    if differing == {"waves"} and "waves" in live and "waves" in want:
        return _without_figures(live["waves"]) == _without_figures(want["waves"])
    return not differing


def _without_words(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Conditions without their messages, which count sites and seconds."""
    found = status.get("conditions") or ()
    return [{key: value for key, value in item.items() if key != "message"} for item in found]


def _without_figures(waves: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in wave.items() if key not in _WAVE_FIGURES} for wave in waves]


class Pen:
    """Remembers when each object's status was last written."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and never jumps."""
        self._api = api
        self._clock = clock
        self._written: dict[str, float] = {}

    async def write(self, kind: Kind, live: Object, want: Status) -> tuple[Object | None, float | None]:
        """Bring an object's status up to date.

        Returns the object as written (None: nothing was), and seconds after which to come back because figures
        alone differ and were written a moment ago. Raises ApiError.
        """
        have, wanted = live.get("status") or {}, to_raw(want)
        uid = live["metadata"]["uid"]
        wait = self._written.get(uid, float("-inf")) + FIGURES_EVERY - self._clock()
        if wait > 0 and figures_only(have, wanted):
            return None, wait if apply.difference(have, wanted, prune=True) else None
        written = await apply.patch_status(self._api, kind, live, wanted)
        if written is not None:
            self._written[uid] = self._clock()
            self._forget_old()
        return written, None

    def _forget_old(self) -> None:
        """Only what was written a moment ago matters; objects that are gone are not remembered."""
        if len(self._written) > _REMEMBERED:
            since = self._clock() - FIGURES_EVERY
            self._written = {uid: when for uid, when in self._written.items() if when > since}
