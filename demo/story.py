"""Four models, two sites: one is promoted everywhere, one meets a cut link, two are stopped and taken back."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from demo.bundles import Bundle
from demo.fleet import Fleet
from demo.report import Bytes, Report, Requests, SiteResult, Step
from demo.traffic import Totals, Traffic
from demo.watching import Picture, Watcher

NAMESPACE: Final = "vision"
MODEL: Final = "digits"
PAUSE: Final = 0.5
"""Seconds between two looks."""
PATIENCE: Final = 180.0
"""Seconds after which a step has failed. Each takes well under a minute."""


class StoryError(Exception):
    """Something did not come about; the message says what was seen last."""


class Narrator(Protocol):
    """Shows what goes on."""

    def say(self, text: str) -> None:
        """A sentence of the story."""

    def show(self, picture: Picture) -> None:
        """What was seen just now."""


def edge_model(bundle: Bundle) -> dict[str, Any]:
    """The EdgeModel of the story: short steps, no soak; first the canary site, then the rest."""
    return {
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "EdgeModel",
        "metadata": {"name": MODEL, "namespace": NAMESPACE},
        "spec": {
            "bundle": bundle.reference,
            "variants": ["int8"],
            "placement": {"siteSelector": {}},
            "serving": {
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}}
            },
            "canary": {
                "steps": [
                    {"shadow": 100, "duration": "1s"},
                    {"weight": 20, "duration": "2s"},
                    {"weight": 50, "duration": "1s"},
                ],
                # generous: on a machine that is hub, sites and callers at once, some answers come late
                "gates": {"maxErrorRate": "20%", "minGolden": "95%", "minRequests": 10},
                "progressDeadline": "2m",
            },
            "rollout": {
                "waves": [
                    {
                        "name": "canary",
                        "siteSelector": {"matchLabels": {"role": "canary"}},
                        "minSuccess": "100%",
                    },
                    {"name": "rest", "minSuccess": "100%"},
                ]
            },
        },
    }


@dataclass
class Running:
    """A release that has begun."""

    name: str
    began: float
    totals: Totals
    asked: dict[str, int]
    """Requests each site's caller had sent by then."""
    pulled: int


class Story:
    """Tells the story on a fleet. Each step can be told on its own once those before it were."""

    def __init__(
        self, fleet: Fleet, traffic: Traffic, bundles: dict[str, Bundle], narrator: Narrator
    ) -> None:
        self.fleet = fleet
        self.watcher = Watcher(fleet, traffic, NAMESPACE, MODEL)
        self.bundles = bundles
        self.report = Report()
        self._traffic = traffic
        self._narrator = narrator

    def begin(self, images: Path) -> None:
        """Forget an earlier telling on the same clusters, and let new callers in. Raises CommandError."""
        self.fleet.hub.kubectl(
            "delete", "edgemodel", MODEL, "-n", NAMESPACE, "--ignore-not-found", timeout=120
        )
        self.until(
            "nothing of an earlier story is left",
            lambda now: not any(site.order for site in now.sites.values()),
        )
        self._traffic.restart(images)

    # -- the steps ------------------------------------------------------------------------------------

    def first_model(self) -> Step:
        """v1 serves at both sites."""
        self._narrator.say("v1: a digit locator in eight bits goes to the canary site, then to the rest")
        self.fleet.hub.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        running = self.release("v1")
        self.until("v1 serves at both sites", lambda now: self.promoted(now, "v1"))
        self.until("callers get answers", lambda now: all(site.totals.sent for site in now.sites.values()))
        return self.done(running, "Promoted")

    def better_model(self) -> Step:
        """v2 is canaried while the last site is cut off, which catches up by itself."""
        last = list(self.fleet.sites)[-1]
        first = next(iter(self.fleet.sites))
        meanwhile = f"The link of {last} is cut while" if self.fleet.can_cut else "First"
        self._narrator.say(f"v2: a better model. {meanwhile} {first} canaries it")
        self._cut(last)
        running = self.release("v2")
        try:
            digest = self.bundles["v2"].digest
            self.until(f"{first} serves v2", lambda now: now.sites[first].serving_bundle == digest)
            if self.fleet.can_cut:
                self.until(
                    f"the hub sees that {last} is away", lambda now: now.sites[last].connectivity == "Away"
                )
        finally:
            self._heal(last)
        self.until("v2 serves at both sites", lambda now: self.promoted(now, "v2"))
        return self.done(running, "Promoted")

    def broken_by_quantization(self) -> Step:
        """v3 does not survive eight bits: the golden set finds out on the canary site's own hardware."""
        self._narrator.say(
            "v3: signed after a build with --max-drop 100%. The golden self-test should stop it"
        )
        running = self.release("v3")
        self.until("v3 is banned", lambda now: self.rolled_back(now, "v3", "v2"))
        return self.done(running, "RolledBack")

    def broken_under_traffic(self) -> Step:
        """v4 passes its self-test and fails on canvases taken at night."""
        self._narrator.say("v4: passes its self-test, but real canvases differ from the golden ones")
        running = self.release("v4")
        self.until("v4 is rolled back", lambda now: self.rolled_back(now, "v4", "v2"))
        return self.done(running, "RolledBack")

    def tell(self, path: Path) -> Report:
        """All steps, in order; the report is written after each. Raises StoryError, CommandError."""
        for step in (
            self.first_model,
            self.better_model,
            self.broken_by_quantization,
            self.broken_under_traffic,
        ):
            step()
            self.report.write(path)
        self.report = Report(self.report.steps, self.fleet.memory(NAMESPACE, MODEL))
        self.report.write(path)
        return self.report

    # -- what steps are made of -----------------------------------------------------------------------

    def release(self, name: str) -> Running:
        """`kubectl apply` the EdgeModel with another bundle. Raises CommandError."""
        picture = self.watcher.look()
        asked = {site: seen.totals.sent for site, seen in picture.sites.items()}
        running = Running(name, time.monotonic(), picture.totals(), asked, self.watcher.pulled_total())
        self.fleet.hub.apply(edge_model(self.bundles[name]))
        return running

    def done(self, running: Running, outcome: str) -> Step:
        """Put a step into the report."""
        seconds = time.monotonic() - running.began
        time.sleep(1)  # callers report twice a second
        picture = self.watcher.look()
        self._demand_callers(picture, running)
        during = picture.totals() - running.totals
        ready = picture.condition("Stalled" if outcome == "RolledBack" else "Ready")
        step = Step(
            name=running.name,
            seconds=round(seconds, 1),
            outcome=outcome,
            sites={name: _result(site.report) for name, site in picture.sites.items()},
            requests=Requests(during.sent, during.failed),
            bytes=Bytes(during.before_lz4, during.after_lz4, self.watcher.pulled_total() - running.pulled),
            reason=f"{ready.get('reason', '')}: {ready.get('message', '')}",
        )
        self.report.steps.append(step)
        self._narrator.say(f"{step.name}: {outcome} after {step.seconds} s. {step.reason}")
        return step

    def _demand_callers(self, picture: Picture, running: Running) -> None:
        """`No request failed` says nothing where nobody asked."""
        silent = [
            name for name, seen in picture.sites.items() if seen.totals.sent <= running.asked.get(name, 0)
        ]
        if silent:
            raise StoryError(
                f"{running.name}: no request came from the callers of {', '.join(silent)}\n{_seen(picture)}"
            )

    def promoted(self, now: Picture, name: str) -> bool:
        """Whether every site serves the bundle and the hub says Ready."""
        digest = self.bundles[name].digest
        return now.settled() and now.condition("Ready").get("status") == "True" and now.all_serve(digest)

    def rolled_back(self, now: Picture, bad: str, good: str) -> bool:
        """Whether the hub says that one bundle is banned and every site serves the other, by its order."""
        stalled = now.condition("Stalled")
        named = self.bundles[bad].digest in stalled.get("message", "")
        back = now.all_serve(self.bundles[good].digest) and all(
            self.bundles[good].digest in str(site.order.get("bundle")) for site in now.sites.values()
        )
        return now.settled() and stalled.get("status") == "True" and named and back

    def _cut(self, site: str) -> None:
        if self.fleet.can_cut:
            self.fleet.cut(site)
        else:
            self._narrator.say(f"(the link of {site} is not ours to cut: this part of the story is left out)")

    def _heal(self, site: str) -> None:
        if self.fleet.can_cut:
            self._narrator.say(f"the link of {site} is back; nobody tells it what it missed")
            self.fleet.heal(site)

    def until(self, what: str, come_about: Callable[[Picture], bool], patience: float = PATIENCE) -> Picture:
        """Look until it has come about, `patience` seconds at most; show every look.

        Raises StoryError with what was seen last.
        """
        deadline = time.monotonic() + patience
        while True:
            picture = self.watcher.look()
            self._narrator.show(picture)
            if come_about(picture):
                return picture
            if time.monotonic() > deadline:
                raise StoryError(f"not within {patience:.0f} s: {what}\n{_seen(picture)}")
            time.sleep(PAUSE)


def _result(report: Mapping[str, Any]) -> SiteResult:
    return SiteResult(
        str(report.get("activeRevision", "")),
        str(report.get("activeBundle", "")),
        str(report.get("variant", "")),
    )


def _seen(picture: Picture) -> str:
    """What one needs to know when a wait was in vain."""
    lines = [f"  model: {each}" for each in picture.model.get("status", {}).get("conditions", [])]
    for name, site in picture.sites.items():
        lines.append(
            f"  {name} ({site.connectivity}): {site.stage} {site.report.get('message', '')} {site.totals}"
        )
    return "\n".join(lines)
