"""What people may do to an EdgeModel and its rollouts in a random history, with the policies they choose from."""

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from support.happenings import Happenings
from support.hubs import Raw, bundle

POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"waves": [{"name": "canary", "siteSelector": {"matchLabels": {"ring": "0"}}, "soak": "60s"}]},
    {"waves": [{"name": "first", "limit": 1, "minSuccess": "100%"}, {"name": "all", "maxConcurrency": 1}]},
    {
        "waves": [
            {"name": "half", "limit": "50%", "maxFailures": 1, "soak": "10m"},
            {"name": "all", "approval": True},
        ]
    },
    {"waves": [{"name": "all", "maxFailures": "100%", "maxConcurrency": 2}], "failureStrategy": "Pause"},
    {"waves": [{"name": "all", "maxFailures": "100%", "minSuccess": "100%", "soak": "60s"}]},
    {
        "waves": [
            {"name": "most", "limit": "75%", "minSuccess": 2, "maxFailures": 2, "soak": "5m"},
            {"name": "all", "maxFailures": 1},
        ]
    },
    {"cohorts": {"by": ["soc"], "minSites": 2}},
    {
        "waves": [{"name": "half", "limit": "50%", "maxConcurrency": 3}, {"name": "all", "maxFailures": 1}],
        "cohorts": {"by": ["firmware", "soc"], "minSites": 1, "maxFailures": 0},
        "rate": {"perMinute": 2, "every": 2},
    },
    {
        "waves": [{"name": "canary", "siteSelector": {"matchLabels": {"ring": "0"}}, "soak": "30s"}],
        "cohorts": {"by": ["ring", "variant", "soc"], "minSites": 3, "maxFailures": "40%"},
        "failureStrategy": "Pause",
    },
    {"rate": {"perMinute": 1, "factor": 3, "every": 1, "maxPerMinute": 4}},
)
RINGS = ((), ("0",), ("0", "1"), ("0", "1", "2"))


class People(Happenings):
    """Edits, verbs and approvals."""

    def newest(self) -> Raw:
        """The newest rollout."""
        return max(self.hub.rollouts.values(), key=lambda raw: raw["spec"]["number"])

    @rule(number=st.integers(1, 5))
    def apply(self, number: int) -> None:
        """Another bundle, or one of before."""
        self.hub.edit(bundle=bundle(number))

    @rule(policy=st.sampled_from(POLICIES))
    def change_policy(self, policy: dict[str, Any]) -> None:
        """Waves are policy, read live."""
        self.hub.edit(rollout=policy)

    @rule(rings=st.sampled_from(RINGS), jurisdictions=st.sampled_from(((), (), (), ("EU",), ("EU", "US"))))
    def place(self, rings: tuple[str, ...], jurisdictions: tuple[str, ...]) -> None:
        """Another selector; the empty tuple stands for every site, and for anywhere."""
        values = [{"key": "ring", "operator": "In", "values": list(rings)}] if rings else []
        placement = {"siteSelector": {"matchExpressions": values}}
        self.hub.edit(placement=placement | ({"jurisdictions": list(jurisdictions)} if jurisdictions else {}))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        """The model is paused or goes on."""
        self.hub.edit(paused=paused)

    @rule(replicas=st.sampled_from((1, 2, 3, "many")))
    def scale(self, replicas: int | str) -> None:
        """Replicas make no revision; one that is no number makes a spec that cannot be read."""
        self.hub.edit(serving={"replicas": replicas})

    @precondition(lambda self: self.hub.rollouts)
    @rule(really=st.sampled_from((False, False, True)))
    def delete_rollout(self, really: bool) -> None:
        """A person deletes the newest EdgeRollout."""
        if really:
            self.forget(self.newest()["metadata"]["name"])

    def forget(self, name: str) -> None:
        """A rollout is gone."""
        del self.hub.rollouts[name]

    @rule(value=st.sampled_from(("1", "2", "3")))
    def retry(self, value: str) -> None:
        """A person asks for another attempt."""
        self.hub.annotate(value)

    @precondition(lambda self: self.hub.rollouts)
    @rule(
        verb=st.sampled_from(
            (
                {"desired": "Paused"},
                {"desired": "Run"},
                {"desired": "Aborted"},
                {"finish": True},
                {"direct": True},
            )
        )
    )
    def verb(self, verb: dict[str, Any]) -> None:
        """A person sets a verb of the newest rollout."""
        newest = self.newest()
        if newest["spec"]["desired"] != "Aborted":
            self.hub.verb(newest["metadata"]["name"], **verb)

    @precondition(lambda self: self.hub.rollouts)
    @rule(wave=st.sampled_from(("all", "consent")))
    def approve(self, wave: str) -> None:
        """A person approves a wave, or a removal."""
        newest, model = self.newest(), self.hub.model
        if wave == "consent" and model is not None:
            wave = f"removal-{model['metadata']['generation']}"
        known = newest["spec"].get("approvals", [])
        if all(item["wave"] != wave for item in known):
            self.hub.verb(newest["metadata"]["name"], approvals=[*known, {"wave": wave, "by": "ann"}])
