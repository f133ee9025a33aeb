"""When a soak is over: by signs of life of after its start only."""

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
