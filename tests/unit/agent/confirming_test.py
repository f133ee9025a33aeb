"""Who is to blame for a gate that a canary broke while it could not be asked: the model, or whoever ended its pod."""

import pytest
from edgefleet.core.local_canary import CONFIRM
from support.site import Behaviour, Site, order


@pytest.fixture
def site() -> Site:
    """One that serves `aa` and has just begun the first step of `bb`."""
    made = Site()
    made.give(order("aa", 1), Behaviour())
    made.run()
    made.give(order("bb", 2), Behaviour(version=2))
    made.run(until=lambda: stage(made) == "Canary/Step")
    return made


def stage(site: Site) -> str:
    return site.stages[-1]


def fail_silently(site: Site) -> None:
    """The serving pods give the canary up, and it answers nobody."""
    site.behaviours["bb"].dropped = True
    site.live("bb")[0].health_readable = False
    site.run(until=lambda: stage(site) == "Canary/Confirming", seconds=30)


def test_a_canary_that_hangs_until_it_is_unready_is_blamed_all_the_same(site: Site) -> None:
    fail_silently(site)
    began = site.now
    site.live("bb")[0].unready = True
    site.run()
    assert (site.selected, stage(site)) == ("aa", "RolledBack/CanaryFailing")
    assert site.now - began < CONFIRM + 15


def test_callers_are_kept_from_it_all_the_while(site: Site) -> None:
    fail_silently(site)
    site.live("bb")[0].unready = True
    while stage(site) == "Canary/Confirming":
        assert all((lease.weight, lease.shadow) == (0, 0) for lease in site.leases.values())
        site.advance(0.5)
        site.step()


def test_a_canary_that_hangs_before_a_step_has_begun_is_blamed_too() -> None:
    site = Site()
    site.give(order("aa", 1), Behaviour())
    site.run()
    site.give(order("bb", 2), Behaviour(version=2, dropped=True))
    site.run(until=lambda: bool(site.leases))
    assert site.progress.step is not None
    assert site.progress.step.begun is None
    site.live("bb")[0].health_readable = False
    site.advance(1.0)
    site.step()
    site.live("bb")[0].unready = True
    site.run(seconds=60)
    assert (site.selected, stage(site)) == ("aa", "RolledBack/CanaryFailing")


def test_one_that_is_asked_again_and_lived_is_blamed_at_once(site: Site) -> None:
    fail_silently(site)
    site.live("bb")[0].health_readable = True
    site.step()
    assert stage(site) == "RolledBack/CanaryFailing"


@pytest.mark.parametrize("gone", [True, False], ids=["deleted", "ended by a signal"])
def test_one_that_was_ended_from_outside_gets_another_chance(site: Site, gone: bool) -> None:
    fail_silently(site)
    site.behaviours["bb"].dropped = False
    (site.delete_pod if gone else site.kill_pod)("bb")
    site.run(until=lambda: stage(site) == "Canary/EvidenceRestarted", seconds=5)
    for pod in site.live("bb"):
        pod.health_readable = True
    site.run()
    assert (site.selected, site.record.refused) == ("bb", ())


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ({"exitCode": 137, "reason": "OOMKilled"}, "OutOfMemory"),
        ({"exitCode": 136, "reason": "Error"}, "Crashed"),
    ],
    ids=["memory", "trap"],
)
def test_how_it_ended_names_the_cause_better_than_what_callers_saw(
    site: Site, end: dict[str, object], reason: str
) -> None:
    fail_silently(site)
    site.kill_pod("bb")
    site.live("bb")[0].end = end
    site.run()
    assert (site.selected, stage(site)) == ("aa", f"RolledBack/{reason}")
