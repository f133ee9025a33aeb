"""What `edgefleet explain` tells is what the operator does: over random histories, and story by story."""

import copy
import os

import pytest
from edgefleet.cli import attempts, reading
from edgefleet.cli.attempts import Attempt
from edgefleet.cli.reading import Objects
from edgefleet.core import explaining, forecast, model_pass, names
from edgefleet.core.decisions import ModelDecision
from edgefleet.core.explaining import Story
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.fleet import World, served, world
from support.hubs import MODEL, NAMESPACE, Hub, Raw, bundle
from unit.core.histories_test import Fleet


def objects(hub: Hub) -> Objects:
    """A hub's objects as a cluster would list them."""

    def at(raw: Raw, site: str) -> Raw:
        made = copy.deepcopy(raw)
        made["metadata"]["namespace"] = names.site_namespace(site)
        return made

    found = {
        "EdgeModel": (hub.model,) if hub.model is not None else (),
        "EdgeRollout": tuple(hub.rollouts.values()),
        "EdgeSite": tuple(hub.sites.values()),
        "EdgeDeployment": tuple(hub.orders.values()),
        "EdgeAgent": tuple(at(raw, site) for site, raw in hub.agents.items()),
        "Lease": tuple(at(raw, site) for site, raw in hub.leases.items()),
    }
    return Objects(hub.now, {kind: copy.deepcopy(items) for kind, items in found.items()})


def told(hub: Hub) -> dict[str, Story]:
    """The stories of a hub's sites."""
    found = objects(hub)
    return {item.site: item for item in explaining.explain(found.seen(_model(hub)), found.taken).stories}


def _model(hub: Hub) -> Raw:
    assert hub.model is not None
    return hub.model


def essence(decision: ModelDecision) -> object:
    """What a decision does and says; not the name of a revision that only the operator's image makes."""
    said = decision.status.conditions if decision.status is not None else ()
    starting = bool(decision.create_rollouts)
    return (
        [(item.type, item.status, item.reason, "" if starting else item.message) for item in said],
        [(item.name, item.spec.bundle, item.spec.attempt) for item in decision.create_rollouts],
        [(item.name, item.status) for item in decision.patch_rollouts],
        [(item.site, item.reason, item.uid, item.order) for item in decision.orders],
        decision.delete_orders,
        decision.delete_rollouts,
        decision.requeue_after,
        decision.status.sites if decision.status is not None else None,
    )


class Explained(Fleet):
    """The same histories, with somebody who asks for an explanation before each pass."""

    compared = 0

    def look(self, writes: int, seed: int) -> None:
        """Ask, then let the operator pass."""
        self.ask()
        super().look(writes, seed)

    def ask(self) -> None:
        """Hold what is explained against what the operator is about to do."""
        found = objects(self.hub)
        seen = found.seen(_model(self.hub), started=self.hub.started)
        known = seen.bundle
        if known is None or known.bundle != _model(self.hub)["spec"]["bundle"]:
            return  # the operator has not said yet what it found in the registry
        if self.hub.orders and not self.hub.rollouts:
            return  # with the last rollout went its image, which only the operator knows now
        decision = self.hub.decide()
        assert essence(model_pass.decide_model(seen, found.taken)) == essence(decision)
        Explained.compared += 1
        told = explaining.explain(seen, found.taken)
        assert decision.status is not None
        ready = next(item for item in decision.status.conditions if item.type == "Ready")
        assert told.reason == ready.reason
        assert told.again == decision.requeue_after
        assert {item.site for item in told.stories if item.next} == {item.site for item in decision.orders}
        stories = {item.site: item for item in told.stories}
        for write in decision.orders:
            if write.reason == "Admitted":
                assert stories[write.site].wave == write.order.wave
                assert write.site in next(w.sites for w in told.waves if w.wave.name == write.order.wave)


def test_over_random_histories_an_explanation_is_what_the_operator_does_next() -> None:
    Explained.compared = 0
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Explained,
        settings=settings(
            max_examples=int(os.environ.get("HISTORIES", "8")),
            stateful_step_count=25,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Explained.compared > 20, "hardly anything was compared"


@pytest.mark.parametrize(
    "waves",
    [
        [],
        [{"name": "lab", "siteSelector": {"matchLabels": {"ring": "0"}}}, {"name": "half", "limit": "50%"}],
        [{"name": "one", "limit": 1}, {"name": "two", "limit": 2, "maxConcurrency": 1}],
    ],
    ids=["no waves", "a selector and a share", "numbers"],
)
def test_the_waves_take_the_sites_that_were_foretold(waves: list[Raw]) -> None:
    made = served({f"s{number}": {"ring": str(number % 3)} for number in range(7)}, rollout={"waves": waves})
    made.hub.edit(bundle=bundle(2))
    found = model_pass.reason_about(made.hub.seen(), made.hub.now)
    assert found is not None
    ahead = forecast.reason_ahead(found, made.hub.seen(), made.hub.now)
    foretold = {item.wave.name: sorted(item.sites) for item in forecast.waves_to_come(ahead) if item.sites}

    made.go(40)

    taken: dict[str, list[str]] = {}
    for site, raw in sorted(made.hub.orders.items()):
        taken.setdefault(raw["spec"]["wave"], []).append(site)
    assert made.hub.condition("Ready") == ("True", "Complete")
    assert foretold == taken


def test_a_site_whose_window_is_shut_is_foretold_after_those_that_could_begin() -> None:
    made = served("abc", rollout={"waves": [{"name": "one", "limit": 1}, {"name": "two", "limit": 1}]})
    made.hub.give_windows("a", download=[{"schedule": "0 1 * * *", "duration": "4h", "timeZone": "UTC"}])
    made.hub.edit(bundle=bundle(2))
    found = model_pass.reason_about(made.hub.seen(), made.hub.now)
    assert found is not None
    ahead = forecast.reason_ahead(found, made.hub.seen(), made.hub.now)
    foretold = {item.wave.name: item.sites for item in forecast.waves_to_come(ahead)}
    made.go(12)

    taken = {raw["spec"]["wave"]: (site,) for site, raw in made.hub.orders.items() if site != "a"}
    assert taken == {"one": ("b",), "two": ("c",)}
    assert foretold == {**taken, "rest": ("a",)}


# -- single stories -------------------------------------------------------------------------------------


def waves(*given: Raw) -> dict[str, list[Raw]]:
    return {"waves": list(given)}


def test_a_site_that_is_not_selected_is_told_which_label_it_misses() -> None:
    made = world(
        {"a": {"country": "de"}, "b": {"country": "fr"}},
        placement={"siteSelector": {"matchLabels": {"country": "de"}}},
    )
    made.go(4)

    story = told(made.hub)["b"]
    assert (story.standing, story.message) == ("NotSelected", "country=de is asked for, it has fr")


def test_a_site_whose_wave_has_not_come_is_told_which_and_what_holds() -> None:
    made = world("ab", rollout=waves({"name": "first", "limit": 1}, {"name": "rest", "approval": True}))
    made.go(6)

    story = told(made.hub)["b"]
    assert (story.standing, story.wave) == ("Waiting", "rest")
    assert "WaitingApproval" in story.message


def test_sites_that_are_away_refused_or_at_work_say_so() -> None:
    made = served("abc")
    made.fail(2, "a")
    made.hub.edit(bundle=bundle(2), rollout=waves({"name": "all", "maxFailures": 3, "minSuccess": 1}))
    made.sites["c"].linked = False
    made.hub.tick(400)
    made.sites["a"].sync()
    made.sites["b"].sync()
    made.sites["b"].steps = 100
    made.go(6)

    stories = told(made.hub)
    assert {name: item.standing for name, item in stories.items()} == {
        "a": "Refused",
        "b": "AtWork",
        "c": "Away",
    }
    assert "GoldenDisagrees" in stories["a"].message


def test_a_site_on_the_newest_good_revision_is_not_called_behind_when_another_one_was_withdrawn() -> None:
    made = served("ab")
    for name in "ab":
        made.fail(2, name)
    made.hub.edit(bundle=bundle(2), rollout=waves({"name": "first", "limit": 1}, {"name": "rest"}))
    made.go(12)

    stories = told(made.hub).values()
    assert sorted(item.standing for item in stories) == ["Refused", "Waiting"]
    (spared,) = (item for item in stories if item.standing == "Waiting")
    assert spared.serves == spared.ordered
    assert f"it is on revision {spared.serves}, the newest good one" in spared.message
    assert "RolledBack" in spared.message


def test_no_wave_of_a_rollout_that_has_ended_is_shown_as_running() -> None:
    begun = [{"name": "first", "completedAt": "2026-01-01T00:00:00Z"}, {"name": "rest", "admitted": 1}]
    for outcome, states in (("", ["complete", "running"]), ("RolledBack", ["complete", "ended"])):
        raw = {"spec": {}, "status": {"outcome": outcome, "waves": begun}}
        assert [str(row[1]).split()[0] for row in attempts.waves(Attempt(raw, None))] == states


def test_a_dump_read_back_explains_the_same() -> None:
    made: World = served("ab")
    made.hub.edit(bundle=bundle(2))
    made.go(2)
    found = objects(made.hub)
    for kind, items in found.by_kind.items():
        for item in items:
            item["kind"] = kind

    text = reading.to_dump(found)

    assert explain_text(text) == explaining.explain(found.seen(_model(made.hub)), found.taken)


def explain_text(text: str) -> explaining.Explanation:
    """Explain from the text of a dump."""
    import tempfile
    from pathlib import Path

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        found = reading.dumped(Path(file.name), None)
    return explaining.explain(found.seen(found.model(NAMESPACE, MODEL)), found.taken)
