"""Full clusters with edgefleet on them: those that `make demo` leaves, told once a test session."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from demo import bundles, local, places
from demo.__main__ import REPORT, callers
from demo.cluster import ROOT
from demo.fleet import Fleet
from demo.story import PATIENCE, Story
from demo.view import PlainView

LOG: Final = ROOT / "build" / "e2e-demo.log"
GOOD: Final = "v2"
"""The model of the story that later tests release again and again, each time as a new version."""


@dataclass
class Told:
    """The demo after its end: what it printed, its report, and its clusters, which are still up."""

    output: str
    report: dict[str, Any]
    fleet: Fleet
    story: Story

    @property
    def canary_site(self) -> str:
        """The site that meets each model first."""
        return next(iter(self.fleet.sites))

    def need_links_to_cut(self) -> None:
        """Skip where links are not ours."""
        if not self.fleet.can_cut:
            pytest.skip("cuts links, and those of clusters somebody named are not ours to cut")

    def step(self, name: str) -> dict[str, Any]:
        """A step of the report."""
        found: dict[str, Any] = next(step for step in self.report["steps"] if step["name"] == name)
        return found

    def new_bundle(self, model: str = GOOD, /, **options: Any) -> str:
        """Build and push a model of the story with the next version; its name in `story.bundles`."""
        version = bundles.next_version()
        name = f"{model}-{version}"
        key = options.pop("key", self.fleet.keys / "demo.key")
        options = {"plain_http": self.fleet.plain_http, **options}
        self.story.bundles[name] = bundles.build(model, version, key, self.fleet.registry, **options)
        return name

    def release(self, name: str, patience: float = PATIENCE) -> None:
        """Release a bundle and wait until both sites serve it, seconds at most. Raises StoryError."""
        self.story.release(name)
        self.story.until(f"{name} serves at both sites", lambda now: self.story.promoted(now, name), patience)


def need_full_clusters() -> None:
    """Skip where full clusters cannot run."""
    if os.geteuid() != 0 and not os.environ.get("HUB_CONTEXT"):
        pytest.skip("full clusters need root (or HUB_CONTEXT and friends, see docs/develop.md)")


def need_localkube() -> None:
    """Skip where localkube cannot make full clusters."""
    if os.geteuid() != 0:
        pytest.skip("localkube's full clusters need root")


def tell() -> Iterator[Told]:
    """Run `make demo` to its end, as the README says; `make demo-down` afterwards unless KEEP=1.

    With TOLD=1 the clusters and the report of the last `make demo` are used, and kept.
    """
    need_full_clusters()
    if not os.environ.get("TOLD"):
        _make_demo()
    output = LOG.read_text()
    fleet = local.attach() if not os.environ.get("HUB_CONTEXT") else places.find(os.environ, print)
    story = Story(fleet, callers(fleet), {}, PlainView())
    yield Told(output, json.loads(REPORT.read_text()), fleet, story)
    if not os.environ.get("KEEP") and not os.environ.get("TOLD"):
        subprocess.run(["make", "demo-down"], cwd=ROOT, check=True)


def _make_demo() -> None:
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("w") as log:
        done = subprocess.run(["make", "demo"], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        pytest.fail(f"make demo ended with {done.returncode}:\n{LOG.read_text()[-6000:]}", pytrace=False)


def scratch(name: str) -> Path:
    """A folder for one test's files under build/."""
    folder = ROOT / "build" / "e2e" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
