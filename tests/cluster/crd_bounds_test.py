"""Every bound in the schemas of the five kinds, one violation each, asked of a real API server."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from edgefleet.kube import kinds
from edgefleet.kube.kinds import Kind
from support import crds

pytestmark = pytest.mark.cluster
BY_KIND = pytest.mark.parametrize("kind", crds.OURS, ids=lambda kind: kind.name)


class Violation(NamedTuple):
    """A full example with one thing wrong, and what the server has to say about it."""

    path: str
    body: crds.Object
    words: str


@pytest.fixture
async def server(api_server: Path) -> AsyncIterator[crds.Server]:
    async with crds.keeping(api_server) as asked:
        yield asked


@BY_KIND
async def test_the_full_example_is_taken(server: crds.Server, kind: Kind) -> None:
    body = _named(kind, server)

    assert await server.refusal(kind, body) == ""
    await server.keep(kind, body)
    try:
        assert await server.status_refusal(kind, body["metadata"]["name"], body) == ""
    finally:
        await _drop(server, kind, body)


@BY_KIND
async def test_every_bound_of_the_spec_is_held(server: crds.Server, kind: Kind) -> None:
    wrong = []
    for violation in _violations(kind, "spec"):
        said = await server.refusal(kind, violation.body)
        if violation.words not in said or crds.field_path(violation.path) not in said:
            wrong.append((violation.path, violation.words, said))

    assert not wrong, "\n".join(map(str, wrong))


@BY_KIND
async def test_every_bound_of_the_status_is_held(server: crds.Server, kind: Kind) -> None:
    body = _named(kind, server)
    await server.keep(kind, body)
    wrong = []
    try:
        for violation in _violations(kind, "status"):
            said = await server.status_refusal(kind, body["metadata"]["name"], violation.body)
            if violation.words not in said or crds.field_path(violation.path) not in said:
                wrong.append((violation.path, violation.words, said))
    finally:
        await _drop(server, kind, body)

    assert not wrong, "\n".join(map(str, wrong))


@BY_KIND
async def test_least_and_largest_numbers_and_every_choice_are_taken(server: crds.Server, kind: Kind) -> None:
    wrong = []
    for path, body in _at_the_edge(kind):
        said = await server.refusal(kind, body)
        if said:
            wrong.append((path, crds.pick(body, path), said))

    assert not wrong, "\n".join(map(str, wrong))


@BY_KIND
async def test_a_new_object_says_that_nobody_has_looked_at_it(server: crds.Server, kind: Kind) -> None:
    body = _named(kind, server)
    try:
        made = await server.keep(kind, body)
        assert made["status"] == {"observedGeneration": -1}
    finally:
        await _drop(server, kind, body)


def _violations(kind: Kind, part: str) -> Iterator[Violation]:
    for schema_path, node in crds.walk(crds.schema(kind)):
        if not schema_path.startswith(part):
            continue
        path = crds.concrete(crds.FULL[kind], schema_path)
        good = crds.pick(crds.FULL[kind], path)
        for bad, words in _bad_values(node, good):
            yield Violation(path, crds.example(kind, {path: bad}), words)
        for name in node.get("required", ()):
            inner = f"{path}.{name}"
            yield Violation(inner, crds.example(kind, {inner: crds.ABSENT}), "Required value")
        if "properties" in node:
            inner = f"{path}.nonsense"
            yield Violation(inner, crds.example(kind, {inner: 1}), "unknown field")


def _bad_values(node: crds.Object, good: Any) -> Iterator[tuple[Any, str]]:
    """Values just outside each bound of a schema node, with the server's words for that bound."""
    wrong_type: Any = "a string" if node.get("type") == "array" else ["a list"]
    if node.get("format") != "date-time":  # the API server takes a list for a string with a format
        yield wrong_type, "must be of type"
    if "maxLength" in node:
        yield "a" * (node["maxLength"] + 1), "Too long"
    if "minLength" in node:
        yield "", "should be at least"
    if "pattern" in node:
        yield "?!", "should match"
    if "enum" in node:
        yield "Nonsense", "Unsupported value"
    if node.get("format") == "date-time":
        yield "yesterday", "must be of type date-time"
    if "minimum" in node:
        yield node["minimum"] - 1, "should be greater than or equal to"
    if "maximum" in node:
        yield node["maximum"] + 1, "should be less than or equal to"
    if "maxItems" in node:
        yield [good[0]] * (node["maxItems"] + 1), "Too many"
    if "maxProperties" in node:
        yield {f"key{i}": "v" for i in range(node["maxProperties"] + 1)}, "Too many"


_TIED: dict[str, crds.Changes] = {
    "spec.serving.outputCompression.codec": {"spec.serving.outputCompression.minBytes": 1024},
    "spec.serving.replicas": {},
    "spec.rollout.rate.perMinute": {"spec.rollout.rate.maxPerMinute": 10000},
    "spec.rollout.rate.factor": {"spec.rollout.rate.every": 10, "spec.rollout.rate.maxPerMinute": 1000},
    "spec.rollout.rate.maxPerMinute": {"spec.rollout.rate.perMinute": 1},
}
"""What else must change for a value to make sense."""


def _at_the_edge(kind: Kind) -> Iterator[tuple[str, crds.Object]]:
    for schema_path, node in crds.walk(crds.schema(kind)):
        if not schema_path.startswith("spec"):
            continue
        path = crds.concrete(crds.FULL[kind], schema_path)
        edges = [*node.get("enum", ()), *(node[k] for k in ("minimum", "maximum") if k in node)]
        for value in edges:
            if path.endswith("steps.1.weight") and value == node["maximum"]:
                continue  # the last step must weigh more
            changes = {**_TIED.get(path, {}), path: value}
            if path == "spec.number":
                changes["metadata.name"] = f"digits-{value}"
            if path.endswith("operator") and not value.endswith("In"):
                changes[path.replace("operator", "values")] = []
            yield path, crds.example(kind, changes)


def _named(kind: Kind, server: crds.Server) -> crds.Object:
    """The example under a name nobody else uses on this server."""
    return crds.example(kind, {"metadata.name": server.namespace} if kind is kinds.EDGE_SITE else {})


async def _drop(server: crds.Server, kind: Kind, body: crds.Object) -> None:
    if not kind.namespaced:
        await server.api.delete(kind, None, body["metadata"]["name"], uid=None)
