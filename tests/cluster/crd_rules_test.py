"""Every CEL rule of the five kinds: what it takes, what it refuses, and that its words reach the user."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from edgefleet.kube import kinds
from edgefleet.kube.kinds import Kind
from support import crds
from support.crd_examples import BUNDLE
from support.crd_rules import ACCEPTED, REFUSED, TRANSITIONS, Refused

pytestmark = pytest.mark.cluster


class _Rule(NamedTuple):
    kind: str
    path: str
    message: str


@pytest.fixture
async def server(api_server: Path) -> AsyncIterator[crds.Server]:
    async with crds.asking(api_server) as asked:
        yield asked


def _rows(table: dict[Kind, dict[str, object]]) -> list[object]:
    rows = [(kind, sentence, row) for kind, part in table.items() for sentence, row in part.items()]
    return [pytest.param(kind, row, id=sentence) for kind, sentence, row in rows]


@pytest.mark.parametrize(("kind", "changes"), _rows(ACCEPTED))
async def test_it_is_taken(server: crds.Server, kind: Kind, changes: crds.Changes) -> None:
    assert await server.refusal(kind, crds.example(kind, changes)) == ""


@pytest.mark.parametrize(("kind", "row"), _rows(REFUSED))
async def test_it_is_refused_with_the_words_of_the_rule(
    server: crds.Server, kind: Kind, row: Refused
) -> None:
    said = await server.refusal(kind, crds.example(kind, row.changes))

    assert row.message in said
    assert crds.field_path(row.at) in said


@pytest.mark.parametrize(("kind", "row"), _rows(TRANSITIONS))
async def test_a_change_is_refused_with_the_words_of_the_rule(
    api_server: Path, kind: Kind, row: Refused
) -> None:
    before, patch = crds.example(kind, row.before), crds.example(kind, row.changes)["spec"]
    async with crds.keeping(api_server) as server:
        await server.keep(kind, before)
        said = await server.patch_refusal(kind, before["metadata"]["name"], {"spec": patch})

    assert row.message in said
    assert crds.field_path(row.at) in said


def test_every_rule_has_a_row_that_breaks_it() -> None:
    rules = {_Rule(kind.name, path, message) for kind in crds.OURS for path, message in crds.rules(kind)}
    broken = {
        _Rule(kind.name, crds.schema_path(row.at), row.message)
        for table in (REFUSED, TRANSITIONS)
        for kind, part in table.items()
        for row in part.values()
    }

    assert rules - broken == set()
    assert broken - rules == set(), "rows for rules that are not there"


async def test_the_verbs_of_a_rollout_may_change(api_server: Path) -> None:
    verbs = {"desired": "Paused", "finish": True, "direct": True}
    more = [{"wave": "lab", "by": "ada"}, {"wave": "early", "by": "grace"}]
    async with crds.keeping(api_server) as server:
        await server.keep(kinds.EDGE_ROLLOUT, crds.example(kinds.EDGE_ROLLOUT))
        said = await server.patch_refusal(
            kinds.EDGE_ROLLOUT, "digits-3", {"spec": {**verbs, "approvals": more}}
        )

    assert said == ""


async def test_one_wave_is_approved_once(server: crds.Server) -> None:
    twice = [{"wave": "lab", "by": "ada"}, {"wave": "lab", "by": "grace"}]

    said = await server.refusal(
        kinds.EDGE_ROLLOUT, crds.example(kinds.EDGE_ROLLOUT, {"spec.approvals": twice})
    )

    assert "Duplicate value" in said


async def test_a_field_nobody_knows_is_refused_not_dropped(server: crds.Server) -> None:
    body = crds.example(kinds.EDGE_DEPLOYMENT, {"spec.canary.gates.minRecall": "99%"})

    said = await server.refusal(kinds.EDGE_DEPLOYMENT, body)

    assert 'unknown field "spec.canary.gates.minRecall"' in said


async def test_a_model_that_says_little_gets_safe_defaults(server: crds.Server) -> None:
    spec = {"bundle": BUNDLE, "placement": {"siteSelector": {}}, "rollout": {"waves": [{"name": "all"}]}}
    path = kinds.EDGE_MODEL.path(server.namespace)
    body = {
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "EdgeModel",
        "metadata": {"name": "digits"},
        "spec": spec,
    }

    made = (await server.api.request("POST", path, {"dryRun": "All"}, body))["spec"]

    assert made["canary"]["steps"] == [
        {"shadow": 100, "duration": "1m"},
        {"weight": 10, "duration": "1m"},
        {"weight": 50, "duration": "1m"},
    ]
    assert made["canary"]["gates"] == {"maxErrorRate": "1%", "minGolden": "95%", "minRequests": 100}
    assert (made["canary"]["onNoTraffic"], made["canary"]["progressDeadline"]) == ("Golden", "15m")
    assert made["serving"] == {"replicas": 1, "outputCompression": {"codec": "lz4", "minBytes": 1024}}
    assert made["rollout"] == {
        "failureStrategy": "RollbackAll",
        "waves": [
            {"name": "all", "maxConcurrency": 100, "soak": "0s", "approval": False, "minSuccess": "50%"}
        ],
    }
    assert (made["paused"], made["deletionPolicy"], made["revisionHistoryLimit"]) == (False, "Remove", 5)


async def test_a_site_needs_nothing_but_a_name(server: crds.Server) -> None:
    body = {"apiVersion": "edgefleet.dev/v1alpha1", "kind": "EdgeSite", "metadata": {"name": "exampleville"}}

    made = await server.api.request("POST", kinds.EDGE_SITE.path(), {"dryRun": "All"}, body)

    assert made["spec"] == {
        "heartbeat": {"interval": "120s", "offlineAfter": "6m"},
        "autonomy": "168h",
        "cordoned": False,
    }
