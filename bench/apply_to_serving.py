"""From `kubectl apply` of a new bundle to serving at both sites, split into its stages.

Runs on the clusters that `make demo` leaves. The stages are those each site reports, seen by looking ten times
a second; `plan` is the time from apply until the site has the order, `ready` the time from the last site's
promotion until the EdgeModel says Ready.
"""

import argparse
import itertools
import sys
import time

from bench import machine, show
from demo import bundles, local
from demo.__main__ import callers
from demo.story import Story
from demo.watching import Picture

EVERY = 0.1
PARTS = ("plan", "pull", "self-test", "canary", "promote")


class Quiet:
    """Shows nothing: standard output is for figures."""

    def say(self, text: str) -> None:
        """Nothing."""

    def show(self, picture: Picture) -> None:
        """Nothing."""


def part_of(stage: str, seen: str) -> str:
    """Which part of the way a site is in, by its stage and the part it was in before."""
    if stage in ("Pending", "Waiting", "Downloading"):
        return "pull"
    if stage in ("Staged", "SelfTesting"):
        return "promote" if seen == "canary" else "self-test"
    if stage in ("Canary", "Held"):
        return "canary"
    return seen


def one(story: Story) -> dict[str, object]:
    """Release a new version and return the seconds each site spent in each part."""
    version = bundles.next_version()
    name = f"bench-{version}"
    story.bundles[name] = bundles.build("v2", version, story.fleet.keys / "demo.key", story.fleet.registry)
    digest = story.bundles[name].digest
    began = story.release(name).began
    spent = {site: dict.fromkeys(PARTS, 0.0) for site in story.fleet.sites}
    part = dict.fromkeys(story.fleet.sites, "plan")
    serving: dict[str, float] = {}
    last = began
    while True:
        now = story.watcher.look()
        for site, view in now.sites.items():
            if site in serving:
                continue
            spent[site][part[site]] += now.at - last
            ordered = digest in str(view.order.get("bundle", ""))
            if view.serving_bundle == digest and view.stage == "Serving":
                serving[site] = now.at - began
            elif ordered:
                part[site] = part_of(view.stage, part[site])
        last = now.at
        if story.promoted(now, name):
            return {
                "total": round(now.at - began, 1),
                "ready": round(now.at - began - max(serving.values()), 1),
                "sites": {
                    site: {key: round(value, 1) for key, value in parts.items()}
                    for site, parts in spent.items()
                },
            }
        if now.at - began > 180:
            sys.exit(f"not within 180 s: {name} serves at both sites")
        time.sleep(EVERY)


def main() -> None:
    """Measure several releases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    fleet = local.attach()
    story = Story(fleet, callers(fleet), {}, Quiet())
    bundles.train()
    show("machine", **machine())
    for number in itertools.islice(itertools.count(1), options.times):
        show("apply_to_serving", run=number, unit="s", **one(story))


if __name__ == "__main__":
    main()
