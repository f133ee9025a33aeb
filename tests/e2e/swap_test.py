"""`canary.surge` with a real scheduler: one pod fills most of a site's node, so two revisions do not fit."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.clusters import Told

from demo.by_hand import Order
from demo.fleet import wait

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@dataclass
class Box:
    """A site that is given its orders by hand."""

    told: Told
    given: Order
    memory: str
    bundles: dict[str, str] = field(default_factory=dict)

    def order(self, model: str, revision: str, *, state: str = "Run", **canary: Any) -> None:
        """Order a model of the story, by hand, in so much memory that two do not fit."""
        if model not in self.bundles:
            self.bundles[model] = self.told.story.bundles[self.told.new_bundle(model)].reference
        self.given.give(
            state=state,
            revision=revision,
            bundle=self.bundles[model],
            image=self.told.fleet.images.edgepod,
            serving={"resources": {"limits": {"memory": self.memory}}},
            canary={"steps": [{"shadow": 100, "duration": "1s"}], **canary},
        )

    def report(self) -> dict[str, Any]:
        return self.given.report()

    def says(self, stage: str, reason: str) -> bool:
        found = self.report()
        return (found.get("stage"), found.get("reason")) == (stage, reason)

    def pods(self, revision: str) -> list[str]:
        return [pod["metadata"]["uid"] for pod in self.given.pods(revision)]


@pytest.fixture(scope="module")
def box(told: Told) -> Iterator[Box]:
    site = list(told.fleet.sites.values())[-1]
    (node,) = site.get("/api/v1/nodes")["items"]
    kib = int(node["status"]["allocatable"]["memory"].removesuffix("Ki"))
    made = Box(told, Order(site, "swaps", "digits", "by-hand"), f"{int(kib * 0.6)}Ki")
    made.order("v1", "00000000a1")
    wait("v1 serves", 120, lambda: made.says("Serving", "Serving"))
    yield made
    made.order("v1", "00000000a1", state="Remove")
    wait("it is removed", 120, lambda: made.says("Removed", "Removed"))
    made.given.forget()


def test_required_waits_for_memory_and_preferred_makes_room_and_says_what_it_cost(box: Box) -> None:
    before = box.pods("00000000a1")
    box.order("v2", "00000000a2")
    wait("v2 lacks memory", 60, lambda: box.says("Blocked", "InsufficientMemory"))
    assert box.pods("00000000a1") == before
    assert box.report()["activeRevision"] == "00000000a1"

    box.order("v2", "00000000a2", surge="Preferred")
    wait("v2 serves", 120, lambda: box.says("Serving", "Serving"))
    wait("v1 is gone", 60, lambda: not box.pods("00000000a1"))
    report = box.report()
    print(f"swap: {report['swap']}")
    assert report["activeRevision"] == "00000000a2"
    assert report["selfTest"]["passed"] is True
    assert report["swap"]["outcome"] == "Swapped"
    assert 0 < report["swap"]["gapSeconds"] < 90


def test_a_newcomer_that_fails_its_self_test_in_the_place_made_gives_it_back(box: Box) -> None:
    box.order("v3", "00000000a3", surge="Preferred")
    wait("v3 is refused", 120, lambda: box.says("RolledBack", "GoldenDisagrees"))
    wait("the gap is over", 60, lambda: "gapSeconds" in box.report().get("swap", {}))
    report = box.report()
    print(f"swap: {report['swap']}")
    assert report["activeRevision"] == "00000000a2"
    assert (report["swap"]["revision"], report["swap"]["outcome"]) == ("00000000a3", "WentBack")
    assert len(box.pods("00000000a2")) == 1
