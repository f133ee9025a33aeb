"""What an abort of something that completed leaves behind."""

import pytest
from support.fleet import World, served
from support.hubs import bundle

STEPS = {"steps": [{"weight": 100, "duration": "1s"}]}


def second(**spec: object) -> World:
    """A world in which bundle 2 serves everywhere after bundle 1 did."""
    fleet = served("ab", **spec)
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(12)
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    return fleet


@pytest.mark.parametrize("edit", ["canary", "retry"])
@pytest.mark.parametrize("also", ["nothing", "another failed"])
def test_an_edit_without_effect_on_what_serves_does_not_bring_it_back_once_aborted(
    edit: str, also: str
) -> None:
    fleet = second()
    if also == "another failed":
        fleet.fail(3)
        fleet.hub.edit(bundle=bundle(3))
        fleet.go(12)
        fleet.hub.edit(bundle=bundle(2))
        fleet.go(12)
    made = len(fleet.hub.rollouts)
    if edit == "canary":
        fleet.hub.edit(canary=STEPS)
    else:
        fleet.hub.annotate("now")
    fleet.go(3)
    fleet.hub.verb("digits-2", desired="Aborted")
    fleet.go(12)
    assert len(fleet.hub.rollouts) == made
    assert set(fleet.active().values()) == {fleet.hub.revision(1)}


@pytest.mark.parametrize("edit", ["canary", "retry"])
def test_an_edit_after_the_abort_does_allow_another_attempt(edit: str) -> None:
    fleet = second()
    fleet.hub.verb("digits-2", desired="Aborted")
    fleet.go(12)
    if edit == "canary":
        fleet.hub.edit(canary=STEPS)
    else:
        fleet.hub.annotate("now")
    fleet.go(12)
    assert fleet.hub.rollout(3)["spec"]["attempt"] == 2
    assert set(fleet.active().values()) == {fleet.hub.revision(2)}
