"""What a user gets to read when a bundle or an object is not what it should be, and that nothing else suffers."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import tampering
from support.clusters import Told, scratch

from demo import bundles
from demo.bundles import Bundle
from demo.cluster import ROOT, CommandError, condition, program, run
from demo.fleet import wait
from demo.story import NAMESPACE, edge_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NAME = "bad"


@pytest.fixture(autouse=True)
def _nothing_else_suffers(told: Told) -> Iterator[None]:
    """Nobody's request fails and no site changes what it serves, whatever a test does to another model."""
    before = told.story.watcher.look()
    yield
    told.fleet.hub.kubectl("delete", "edgemodel", NAME, "-n", NAMESPACE, "--ignore-not-found", "--wait=true")
    after = told.story.watcher.look()
    assert after.totals().failed == before.totals().failed
    served = [{name: site.serving_bundle for name, site in now.sites.items()} for now in (before, after)]
    assert served[0] == served[1]


def _apply(told: Told, reference: str, **spec: Any) -> None:
    model = edge_model(Bundle(reference))
    model["metadata"]["name"] = NAME
    model["spec"].update(spec)
    told.fleet.hub.apply(model)


def _model(told: Told) -> dict[str, Any]:
    return told.fleet.hub.get(f"/apis/edgefleet.dev/v1alpha1/namespaces/{NAMESPACE}/edgemodels/{NAME}")


def _report(told: Told) -> dict[str, Any]:
    """What the canary site says of the bad model."""
    orders = told.fleet.hub.items("edgedeployments", f"site-{told.canary_site}")
    mine = next((each for each in orders if each["metadata"]["name"] == f"{NAMESPACE}.{NAME}"), {})
    report: dict[str, Any] = mine.get("status", {})
    return report


def _refused(told: Told, kind: str, reason: str) -> str:
    """Wait until a condition has the reason; its message."""
    wait(f"{kind} says {reason}", 60, lambda: condition(_model(told), kind).get("reason") == reason)
    return str(condition(_model(told), kind)["message"])


def test_a_bundle_without_signature_is_not_accepted(told: Told) -> None:
    if not told.fleet.plain_http:
        pytest.skip("speaks to a registry without TLS")
    reference = told.story.bundles[told.new_bundle()].reference
    _apply(told, tampering.without_signature(reference))
    assert "sign" in _refused(told, "Accepted", "Unsigned").lower()


def test_a_bundle_signed_by_a_stranger_is_not_accepted(told: Told) -> None:
    folder = scratch("stranger")
    if not (folder / "stranger.key").exists():
        run([program("edgefleet"), "keys", "create", "--out", folder, "--name", "stranger"])
    name = told.new_bundle(key=folder / "stranger.key")
    _apply(told, told.story.bundles[name].reference)
    assert "trusted here" in _refused(told, "Accepted", "UntrustedKey")


def test_an_unknown_registry_is_named(told: Told) -> None:
    host = told.fleet.registry.partition("/")[0].partition(":")[0]
    _apply(told, f"oci://{host}:5999/demo/{bundles.NAME}@sha256:{'0' * 64}")
    assert ":5999" in _refused(told, "Accepted", "RegistryUnreachable")


def test_a_bundle_that_is_not_there_is_named(told: Told) -> None:
    _apply(told, f"oci://{told.fleet.registry}/demo/{bundles.NAME}@sha256:{'0' * 64}")
    assert "0000" in _refused(told, "Accepted", "NotFound")


@pytest.mark.skipif(bool(os.environ.get("HUB_CONTEXT")), reason="changes a file of localkube's registry")
def test_a_flipped_byte_in_the_model_never_serves(told: Told) -> None:
    bundle = told.story.bundles[told.new_bundle("v1")]
    state = Path(os.environ.get("LOCALKUBE_STATE", ROOT / "build" / "localkube"))
    with tampering.flipped_byte_of_model(bundle.reference, state / "registry" / "data"):
        _apply(told, bundle.reference, variants=["int8"])
        wait("the site names the digest", 60, lambda: _report(told).get("reason") == "DigestMismatch")
        assert not _report(told).get("activeRevision")
    wait("the mended one serves", 120, lambda: _report(told).get("stage") == "Serving")


def test_a_reference_without_digest_is_refused_by_the_api_server(told: Told) -> None:
    with pytest.raises(CommandError, match="sha256"):
        _apply(told, f"oci://{told.fleet.registry}/demo/{bundles.NAME}:1")


def test_a_selector_that_matches_no_site_says_so(told: Told) -> None:
    reference = told.story.bundles[told.new_bundle()].reference
    _apply(told, reference, placement={"siteSelector": {"matchLabels": {"role": "nobody"}}})
    assert _refused(told, "Stalled", "NoSitesMatch")


def test_what_is_not_onnx_is_not_built(told: Told) -> None:
    text = scratch("not-onnx") / "model.onnx"
    text.write_text("this is not a model\n")
    with pytest.raises(CommandError, match=r"(?i)onnx"):
        bundles.build("v1", 1, told.fleet.keys / "demo.key", told.fleet.registry, model=text)
