"""What the hub promises of windows and soaks, reckoned from raw objects by an arithmetic of its own.

Windows of histories open every hour: `M * * * *`, for less than an hour, UTC.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from edgefleet.core import units
from edgefleet.core.decisions import ModelDecision
from edgefleet.core.order import State
from support.hubs import Hub, Raw

HOUR = 3600.0
AHEAD = 900.0
"""Seconds before a window opens in which an order may go out."""
WAITING = ("WindowClosed", "ClockUntrusted")
OFFERS = ("Admitted", "CatchUp")


def hourly(minute: int, minutes: int) -> list[Raw]:
    """A window of every hour."""
    return [{"schedule": f"{minute} * * * *", "duration": f"{minutes}m", "timeZone": "UTC"}]


def shut_for(hub: Hub, name: str, kind: str) -> float:
    """Seconds until a window of a site opens, by the policy that was delivered; 0: it is open, or there is none."""
    listed = hub.agents[name]["spec"].get("windows", {}).get(kind, ())
    return min((_shut_for(window, hub.now) for window in listed), default=0.0)


def _shut_for(window: Raw, now: datetime) -> float:
    start = int(window["schedule"].split()[0]) * 60
    since = (now.minute * 60 + now.second - start) % HOUR
    return 0.0 if since < units.duration(window["duration"]) else HOUR - since


def obeys(hub: Hub, name: str) -> bool:
    """Whether a site has windows, and an agent that knows of them."""
    agent = hub.agents[name]
    return "windows" in agent["spec"] and "windows" in agent["status"]


def waits(hub: Hub, name: str) -> bool:
    """Whether a site's order waits for a window, as it said, and nothing the hub knows says otherwise."""
    said = hub.orders[name]["status"]
    if said.get("reason") not in WAITING:
        return False
    kind = "update" if said["stage"] == "Staged" else "download"
    return said["reason"] != "WindowClosed" or shut_for(hub, name, kind) > 0


def check_windows(hub: Hub, decision: ModelDecision) -> None:
    """Offers keep to windows, going back does not, and the hub looks again in time."""
    for write in decision.orders:
        if write.order.state is not State.RUN or write.site not in hub.agents:
            continue
        if write.reason in OFFERS:
            left = shut_for(hub, write.site, "download")
            assert left <= AHEAD, f"{write.site} is offered a model {left} s before it may fetch it"
        assert not write.order.go_back or obeys(hub, write.site), f"{write.site} does not know of going back"
        if write.reason == "GoBack" and write.site in hub.sites:
            assert write.order.go_back == obeys(hub, write.site), f"{write.site} would wait to go back"


def nobody_waits_to_leave(hub: Hub, leaving: list[str]) -> None:
    """After a whole pass these sites, which serve what is banned, are told that they go back, if they can be told."""
    for name in leaving:
        spec = hub.orders[name]["spec"]
        assert spec["mode"] == "Direct", f"I5: {name} is judged by the model it leaves"
        assert spec.get("goBack", False) == obeys(hub, name), (
            f"I5: {name} would wait for a window to go back, or not understand"
        )


def looks_in_time(hub: Hub, decision: ModelDecision, names: list[str]) -> None:
    """These sites are not healthy: the hub looks again before a window of theirs opens, and when it does."""
    for name in names:
        for kind in ("download", "update"):
            left = shut_for(hub, name, kind)
            due = left - AHEAD if left > AHEAD else left
            if due > 0:
                again = decision.requeue_after
                assert again is not None, f"nobody looks again when the window of {name} opens"
                assert again <= due, f"{again} s until a look, the {kind} window of {name} needs one in {due}"


# -- soaks ----------------------------------------------------------------------------------------------


@dataclass
class Soak:
    """One soak as it was watched."""

    since: datetime
    stood: float = 0.0
    """Seconds in which nothing was to go on."""


class Soaks:
    """All soaks under way, watched from pass to pass."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Soak] = {}
        self.last: datetime | None = None
        self.paused = False
        """Whether the last pass found the rollout paused, and wrote so."""

    def passed(self, before: Hub, after: Hub) -> None:
        """A pass was made over `before` and left `after`."""
        elapsed = (before.now - self.last).total_seconds() if self.last is not None else 0.0
        self.last = before.now
        for soak in self.known.values():
            soak.stood += elapsed if self.paused else 0.0
        going: dict[tuple[str, str], Soak] = {}
        for name, raw in after.rollouts.items():
            for wave in raw["status"].get("waves", ()):
                key = (name, wave["name"])
                if wave.get("completedAt"):
                    self._over(before, key, wave)
                elif wave.get("soakStartedAt"):
                    going[key] = self.known.get(key, Soak(before.now))
        self.known = going
        newest = max(after.rollouts.values(), key=lambda raw: raw["spec"]["number"], default=None)
        self.paused = newest is not None and bool(newest["status"].get("pausedAt"))

    def _over(self, hub: Hub, key: tuple[str, str], wave: Raw) -> None:
        soak = self.known.get(key)
        if soak is None or hub.model is None or hub.rollouts[key[0]]["spec"]["finish"]:
            return
        waves = {item["name"]: item for item in hub.model["spec"].get("rollout", {}).get("waves", ())}
        length = units.duration(waves.get(key[1], {}).get("soak", "0s"))
        watched = (hub.now - soak.since).total_seconds() - soak.stood
        assert watched >= length, f"I3: {wave} was watched for {watched} of {length} s"


def soaks_stand_on_health(hub: Hub) -> None:
    """I3: no soak goes on in a wave that has too few healthy sites."""
    waves = {
        item["name"]: item for item in (hub.model or {}).get("spec", {}).get("rollout", {}).get("waves", ())
    }
    for raw in hub.rollouts.values():
        if raw["status"].get("outcome") or _stopped(raw):
            continue
        for wave in raw["status"].get("waves", ()):
            policy = waves.get(
                wave["name"], {"approval": True}
            )  # a wave the spec has no more stands as it stood
            if wave.get("completedAt") or not wave.get("soakStartedAt") or policy.get("approval"):
                continue
            need = units.at_least(policy.get("minSuccess", "50%"), wave.get("admitted", 0))
            assert wave.get("healthy", 0) >= need, f"I3: {wave} soaks with too few healthy"


def _stopped(raw: Raw) -> bool:
    """Whether a rollout waits for a person because too many failed."""
    return any(item["reason"] == "MaxFailuresExceeded" for item in raw["status"].get("conditions", ()))


def next_opening(hub: Hub) -> float | None:
    """Seconds until the next window of any site opens; None: none is shut."""
    times = [shut_for(hub, name, kind) for name in hub.sites for kind in ("download", "update")]
    return min((time for time in times if time > 0), default=None)


def soaking(hub: Hub) -> timedelta | None:
    """How long the soak under way has still to go; None: there is none."""
    if hub.model is None:
        return None
    waves = {item["name"]: item for item in hub.model["spec"].get("rollout", {}).get("waves", ())}
    for raw in hub.rollouts.values():
        for wave in raw["status"].get("waves", ()):
            length = units.duration(waves.get(wave["name"], {}).get("soak", "0s"))
            if wave.get("soakStartedAt") and not wave.get("completedAt") and length > 0:
                over = units.instant(wave["soakStartedAt"]) + timedelta(seconds=length)
                return over - hub.now
    return None
