"""When a soak is over: by signs of life of after its start only, and of sites that are there."""

import pytest
from support.fleet import world


@pytest.mark.parametrize(("after", "reason"), [(0.0, "NotEnoughSites"), (1.0, "Complete")])
def test_a_beat_of_the_second_the_soak_began_in_is_no_evidence(after: float, reason: str) -> None:
    fleet = world("a", rollout={"waves": [{"name": "all", "soak": "60s"}]})
    fleet.go(4)
    (wave,) = fleet.hub.rollout(1)["status"]["waves"]
    began = fleet.hub.now.replace(
        hour=int(wave["soakStartedAt"][11:13]), minute=int(wave["soakStartedAt"][14:16])
    )
    began = began.replace(second=int(wave["soakStartedAt"][17:19]))
    over, fleet.hub.now = began.replace(minute=began.minute + 1), began
    fleet.hub.tick(after)
    fleet.sites["a"].sync()
    fleet.hub.now = over
    decision = fleet.hub.look()
    assert fleet.hub.condition("Ready")[1] == reason
    if reason != "Complete":
        assert decision.requeue_after is not None
        assert decision.requeue_after <= 10


def test_a_soak_begins_anew_when_there_was_nobody_to_watch() -> None:
    fleet = world("a", rollout={"waves": [{"name": "all", "soak": "10m"}]})
    fleet.go(4)
    assert fleet.hub.condition("Reconciling")[1] == "Soaking"
    fleet.hub.sites["a"]["spec"]["cordoned"] = True
    fleet.hub.look()
    fleet.hub.tick(601)
    fleet.hub.sites["a"]["spec"]["cordoned"] = False
    fleet.sites["a"].sync()
    fleet.go(2)

    assert fleet.hub.condition("Reconciling")[1] == "Soaking"
