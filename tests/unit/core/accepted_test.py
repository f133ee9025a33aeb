"""What Accepted says about bundles."""

from dataclasses import replace
from typing import Any

import pytest
from edgefleet.core import model_pass
from edgefleet.core.seen import BundleCheck
from support.fleet import served, world
from support.hubs import Hub, bundle

ELSEWHERE = bundle(1).replace("registry.example", "registry.corrected.example")
AWAY: dict[str, Any] = {
    "ok": False,
    "reason": "RegistryUnreachable",
    "message": "no route",
    "environment": True,
}
BAD: dict[str, Any] = {"ok": False, "reason": "Unsigned", "message": "no signature"}


def accepted(hub: Hub, check: BundleCheck | None) -> tuple[str, str]:
    """Accepted after a pass that saw this look-up; None: none was made yet."""
    decision = model_pass.decide_model(replace(hub.seen(), bundle=check), hub.now)
    assert decision.status is not None
    return next((item.status, item.reason) for item in decision.status.conditions if item.type == "Accepted")


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (None, ("Unknown", "Checking")),
        (BundleCheck(bundle=bundle(9), ok=True), ("Unknown", "Checking")),
        (BundleCheck(bundle=bundle(1), **AWAY), ("False", "RegistryUnreachable")),
        (BundleCheck(bundle=bundle(1), **BAD), ("False", "Unsigned")),
        (BundleCheck(bundle=bundle(1), ok=True), ("True", "BundleVerified")),
    ],
)
def test_without_sites_nothing_is_said_to_be_verified_that_nobody_verified(
    check: BundleCheck | None, said: tuple[str, str]
) -> None:
    assert accepted(world("").hub, check) == said


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (None, ("Unknown", "Checking")),
        (BundleCheck(bundle=bundle(1), ok=True), ("Unknown", "Checking")),
        (BundleCheck(bundle=ELSEWHERE, **AWAY), ("False", "RegistryUnreachable")),
        (BundleCheck(bundle=ELSEWHERE, ok=True), ("True", "BundleVerified")),
    ],
)
def test_the_same_digest_elsewhere_is_verified_there(
    check: BundleCheck | None, said: tuple[str, str]
) -> None:
    fleet = served("a")
    fleet.hub.edit(bundle=ELSEWHERE)
    assert accepted(fleet.hub, check) == said


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (None, ("True", "BundleVerified")),
        (BundleCheck(bundle=bundle(1), **AWAY), ("True", "BundleVerified")),
        (BundleCheck(bundle=bundle(1), **BAD), ("False", "Unsigned")),
    ],
)
def test_a_rollout_remembers_its_bundle_until_that_is_found_to_be_no_good(
    check: BundleCheck | None, said: tuple[str, str]
) -> None:
    assert accepted(served("a").hub, check) == said
