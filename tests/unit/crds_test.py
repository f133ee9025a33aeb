"""The schemas in `crds/`, read without a server: complete, bounded, and equal to the wire between hub and agent."""

import copy
import enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import msgspec
import pytest
import yaml
from edgefleet.core import names, specs, statuses
from edgefleet.core.order import Canary, Order, OutputCompression, Report, Serving
from edgefleet.kube import kinds
from edgefleet.kube.kinds import Kind
from support import crds

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
BY_KIND = pytest.mark.parametrize("kind", crds.OURS, ids=lambda kind: kind.name)
SHORT = {
    "EdgeModel": "efm",
    "EdgeSite": "efs",
    "EdgeRollout": "efr",
    "EdgeAgent": "efa",
    "EdgeDeployment": "efd",
}


@BY_KIND
def test_a_kind_is_served_as_the_code_knows_it(kind: Kind) -> None:
    spec = crds.definition(kind)["spec"]
    version = spec["versions"][0]

    assert (spec["group"], [v["name"] for v in spec["versions"]]) == (names.GROUP, [names.VERSION])
    assert (kind.name, kind.plural) == (spec["names"]["kind"], spec["names"]["plural"])
    assert ("Namespaced" if kind.namespaced else "Cluster") == spec["scope"]
    assert ([SHORT[kind.name]], ["edgefleet"]) == (spec["names"]["shortNames"], spec["names"]["categories"])
    assert version["subresources"] == {"status": {}}


@BY_KIND
def test_an_unseen_object_is_not_taken_for_a_ready_one(kind: Kind) -> None:
    assert crds.schema(kind)["properties"]["status"]["default"] == {"observedGeneration": -1}


@BY_KIND
def test_every_field_is_described(kind: Kind) -> None:
    ours = ((path, node) for path, node in crds.walk(crds.schema(kind)) if path != "metadata")

    assert [path for path, node in ours if not node.get("description")] == []


@BY_KIND
def test_every_string_number_list_and_map_has_bounds(kind: Kind) -> None:
    unbounded = [
        path
        for path, node in crds.walk(crds.schema(kind))
        if path.startswith(("spec", "status")) and not _bounded(path, node)
    ]

    assert unbounded == []


def _bounded(path: str, node: crds.Object) -> bool:
    if node.get("x-kubernetes-int-or-string"):
        return "maxLength" in node and bool(node.get("x-kubernetes-validations"))
    match node["type"]:
        case "string":
            return "maxLength" in node or "enum" in node
        case "array":
            return "maxItems" in node
        case "integer" if path.startswith("spec"):
            return "minimum" in node and "maximum" in node
        case "integer":
            return "minimum" in node
        case "object":
            return "additionalProperties" not in node or "maxProperties" in node
    return True


@BY_KIND
def test_the_full_example_has_every_field(kind: Kind) -> None:
    example, missing = crds.FULL[kind], []
    for path, _node in crds.walk(crds.schema(kind)):
        if path.startswith(("spec", "status")):
            try:
                crds.concrete(example, path)
            except KeyError:
                missing.append(path)

    assert missing == []


@pytest.mark.parametrize("kind", [kinds.EDGE_MODEL, kinds.EDGE_SITE], ids=lambda kind: kind.name)
def test_the_page_that_says_every_field_has_every_field(kind: Kind) -> None:
    page = (EXAMPLES / f"{kind.name.lower()}.yaml").read_text()
    example, missing = yaml.safe_load(page), []
    for path, _node in crds.walk(crds.schema(kind)["properties"]["spec"]):
        try:
            crds.concrete(example["spec"], path)
        except KeyError:
            missing.append(path)

    selectors = {
        path for path in missing if ".siteSelector.matchExpressions" in path
    }  # shown in the placement
    assert "every field" in page.lower()
    assert [path for path in missing if path not in selectors and f"# {path}:" not in page] == []


@pytest.mark.parametrize(("part", "struct"), [("spec", Order), ("status", Report)], ids=["order", "report"])
def test_an_edge_deployment_is_the_wire_field_by_field(part: str, struct: type[msgspec.Struct]) -> None:
    _assert_same(crds.schema(kinds.EDGE_DEPLOYMENT)["properties"][part], struct, part)


HUB = [
    (kinds.EDGE_MODEL, "spec", specs.ModelSpec),
    (kinds.EDGE_MODEL, "status", statuses.ModelStatus),
    (kinds.EDGE_SITE, "spec", specs.SiteSpec),
    (kinds.EDGE_SITE, "status", statuses.SiteStatus),
    (kinds.EDGE_ROLLOUT, "spec", specs.RolloutSpec),
    (kinds.EDGE_ROLLOUT, "status", statuses.RolloutStatus),
    (kinds.EDGE_AGENT, "spec", specs.AgentSpec),
]


@pytest.mark.parametrize(
    ("kind", "part", "struct"), HUB, ids=[f"{kind.name}.{part}" for kind, part, _ in HUB]
)
def test_a_kind_is_what_the_hub_reads_and_writes(kind: Kind, part: str, struct: type[msgspec.Struct]) -> None:
    node = crds.schema(kind)["properties"][part]
    if kind is kinds.EDGE_ROLLOUT and part == "spec":  # replicas make no revision
        node = copy.deepcopy(node)
        node["properties"]["serving"]["properties"]["replicas"] = {"type": "integer"}

    _assert_same(node, struct, part, wire=False)


def _assert_same(node: crds.Object, wanted: Any, path: str, *, wire: bool = True) -> None:
    """The schema node must say what the type says; on the wire also which fields are required."""
    if isinstance(wanted, UnionType):
        options = [option for option in get_args(wanted) if option is not NoneType]
        if options == [int, str]:
            assert node["x-kubernetes-int-or-string"], path
            return
        wanted = options[0]  # `X | None`: an absent field
    if get_origin(wanted) is tuple:
        assert node["type"] == "array", path
        _assert_same(node["items"], get_args(wanted)[0], f"{path}[]", wire=wire)
    elif wanted == dict[str, str]:
        assert node["type"] == "object", path
        values = node.get("properties", {"*": node.get("additionalProperties")}).values()
        assert {"string"} == {value["type"] for value in values}, path
    elif issubclass(wanted, msgspec.Struct):
        fields = {field.encode_name: field for field in msgspec.structs.fields(wanted)}
        assert set(fields) == set(node["properties"]), path
        if wire:
            required = {name for name, field in fields.items() if field.required}
            assert required == set(node.get("required", ())), path
        for name, field in fields.items():
            _assert_same(node["properties"][name], field.type, f"{path}.{name}", wire=wire)
    elif issubclass(wanted, enum.Enum):
        assert [member.value for member in wanted] == node["enum"], path
    else:
        scalar = {str: "string", int: "integer", float: "number", bool: "boolean"}[wanted]
        assert scalar == node["type"], path


@pytest.mark.parametrize(
    ("path", "struct"),
    [
        ("serving", Serving),
        ("serving.outputCompression", OutputCompression),
        ("canary", Canary),
        ("canary.gates", Canary.__annotations__["gates"]),
    ],
    ids=["serving", "compression", "canary", "gates"],
)
def test_a_default_is_the_same_in_the_kind_and_on_the_wire(path: str, struct: type[msgspec.Struct]) -> None:
    node = crds.schema(kinds.EDGE_MODEL)["properties"]["spec"]
    for step in path.split("."):
        node = node["properties"][step]

    for field in msgspec.structs.fields(struct):
        default = node["properties"][field.encode_name].get("default")
        if default is not None and not isinstance(default, dict | list):
            assert default == field.default, field.encode_name


@pytest.mark.parametrize("part", ["serving", "canary", "variants", "bundle"])
def test_a_model_can_say_all_that_an_order_can(part: str) -> None:
    model = crds.schema(kinds.EDGE_MODEL)["properties"]["spec"]["properties"][part]
    order = crds.schema(kinds.EDGE_DEPLOYMENT)["properties"]["spec"]["properties"][part]

    assert [path for path, _ in crds.walk(order)] == [path for path, _ in crds.walk(model)]


def test_the_example_of_an_order_is_one_to_the_agent_too() -> None:
    full = crds.FULL[kinds.EDGE_DEPLOYMENT]

    order, report = msgspec.convert(full["spec"], Order), msgspec.convert(full["status"], Report)

    assert names.order_name(order.model.namespace, order.model.name) == full["metadata"]["name"]
    assert report.variant in order.variants
