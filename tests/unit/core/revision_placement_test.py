"""What makes a revision, and whom a selector means."""

from typing import Any

import msgspec
import pytest
from edgefleet.core import placement, revision
from edgefleet.core.fingerprint import fingerprint
from edgefleet.core.order import OutputCompression, Resources, Serving
from edgefleet.core.seen import Meta
from edgefleet.core.specs import Selector

DIGEST = "sha256:" + "a" * 64
GIVEN: dict[str, Any] = {
    "digest": DIGEST,
    "variants": ("int8",),
    "serving": Serving(),
    "image": "pod@sha256:1",
}


def test_a_revision_is_the_same_everywhere() -> None:
    assert revision.revision_of(**GIVEN) == "7c7b478fe3"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"digest": "sha256:" + "b" * 64}, id="another bundle"),
        pytest.param({"variants": ("fp32", "int8")}, id="other variants"),
        pytest.param({"image": "pod@sha256:2"}, id="another pod image"),
        pytest.param({"serving": Serving(resources=Resources(limits={"memory": "1Gi"}))}, id="more memory"),
        pytest.param(
            {"serving": Serving(output_compression=OutputCompression(codec="none"))}, id="no compression"
        ),
    ],
)
def test_what_callers_or_pods_would_notice_is_another_revision(other: dict[str, Any]) -> None:
    assert revision.revision_of(**GIVEN | other) != revision.revision_of(**GIVEN)


def test_more_pods_are_no_other_revision() -> None:
    assert revision.revision_of(**GIVEN | {"serving": Serving(replicas=3)}) == revision.revision_of(**GIVEN)


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({}, True),
        ({"matchLabels": {"country": "de"}}, True),
        ({"matchLabels": {"country": "fr"}}, False),
        ({"matchLabels": {"country": "de", "soc": "x"}}, False),
        ({"matchExpressions": [{"key": "country", "operator": "In", "values": ["de", "fr"]}]}, True),
        ({"matchExpressions": [{"key": "country", "operator": "NotIn", "values": ["fr"]}]}, True),
        ({"matchExpressions": [{"key": "soc", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "soc", "operator": "In", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "country", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "soc", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "soc", "operator": "DoesNotExist"}]}, True),
        (
            {
                "matchLabels": {"country": "de"},
                "matchExpressions": [{"key": "country", "operator": "DoesNotExist"}],
            },
            False,
        ),
    ],
    ids=str,
)
def test_a_selector_means_what_it_means_to_kubernetes(selector: dict[str, Any], matches: bool) -> None:
    assert placement.matches(msgspec.convert(selector, Selector), {"country": "de"}) is matches


def test_a_fingerprint_does_not_depend_on_the_order_of_things() -> None:
    one, two = Meta(name="a.m", uid="1", generation=1), Meta(name="b.m", uid="2", generation=1)
    assert fingerprint((one, two), 1) == fingerprint((two, one), 1)
    assert len(fingerprint((), 1)) == 16


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(((Meta(name="a.m", uid="1", generation=2),), 1), id="an order changed"),
        pytest.param(((Meta(name="a.m", uid="2", generation=1),), 1), id="an order was made again"),
        pytest.param(((), 1), id="an order is gone"),
        pytest.param(((Meta(name="a.m", uid="1", generation=1),), 2), id="the policy changed"),
    ],
)
def test_a_fingerprint_tells_a_difference(other: tuple[tuple[Meta, ...], int]) -> None:
    assert fingerprint(*other) != fingerprint((Meta(name="a.m", uid="1", generation=1),), 1)
