"""Starting from the site's store: digests, the cache, and why a pod is not ready."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from edgepod import loading
from edgepod.contract import TensorSpec
from edgepod.engine import Engine, LoadError
from edgepod.source import SourceError, Store
from support import onnx_models, pods
from support.pods import Site

X = np.ones((1, 64), dtype=np.float32)
INPUTS = (TensorSpec("x", "FP32", (-1, 64)),)
OUTPUTS = (TensorSpec("scores", "FP32", (-1, 10)),)


@pytest.fixture
def site() -> Iterator[Site]:
    with pods.site() as here:
        yield here


def test_a_pod_serves_what_the_serving_document_says(tmp_path: Path, site: Site) -> None:
    model = onnx_models.linear(tmp_path / "any-name.onnx")
    serving = site.serving(model, INPUTS, OUTPUTS, name="shop", version="7", revision="0123456789")
    with pods.pod(*site.arguments(serving, tmp_path / "cache")) as pod:
        answer = pod.ready().infer(pods.json_request({"x": X}), model="shop")
        assert answer.status == 200
        assert answer.json["model_version"] == "7"
        assert answer.headers["edgefleet-revision"] == "0123456789"
        health = pod.health()
        assert (health.revision, health.ready, health.reason) == ("0123456789", True, "")


def test_a_restarted_pod_needs_no_store(tmp_path: Path) -> None:
    with pods.site() as site:
        serving = site.serving(onnx_models.linear(tmp_path / "m.onnx"), INPUTS, OUTPUTS)
        arguments = site.arguments(serving, tmp_path / "cache")
        with pods.pod(*arguments) as pod:
            pod.ready()
    with pods.pod(*arguments) as pod:
        assert pod.ready().infer(pods.json_request({"x": X})).status == 200


def test_a_flipped_byte_is_not_served_until_the_store_has_the_right_one(tmp_path: Path, site: Site) -> None:
    model = onnx_models.linear(tmp_path / "m.onnx")
    serving = site.serving(model, INPUTS, OUTPUTS)
    blob = site.put(model.read_bytes())
    right = site.files[blob.digest]
    site.files[blob.digest] = right[:-1] + bytes([right[-1] ^ 1])
    with pods.pod(*site.arguments(serving, tmp_path / "cache")) as pod:
        pod.listening()
        pods.wait_for(lambda: pod.health().reason == "DigestMismatch", "it does not say why")
        assert pod.get("/v2/health/live").status == 200
        answer = pod.get("/v2/health/ready")
        assert (answer.status, answer.json["ready"]) == (503, False)
        assert "DigestMismatch" in answer.error
        refused = pod.infer(pods.json_request({"x": X}))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert not pod.health().ready
        site.files[blob.digest] = right
        pod.ready()


def test_a_cached_file_that_went_bad_is_fetched_again(tmp_path: Path, site: Site) -> None:
    store = Store(site.url, tmp_path)
    path = store.file(site.put(b"the model"))
    path.write_bytes(b"the modem")
    assert store.file(site.put(b"the model")).read_bytes() == b"the model"
    assert len(site.fetched) == 2


def test_a_cached_file_is_not_fetched_again(tmp_path: Path, site: Site) -> None:
    store = Store(site.url, tmp_path)
    for _ in range(3):
        store.file(site.put(b"the model"))
    assert len(site.fetched) == 1


@pytest.mark.parametrize(
    ("given", "reason"), [(b"short", "SizeMismatch"), (b"much too long", "SizeMismatch")]
)
def test_another_size_is_refused_and_nothing_is_left(
    tmp_path: Path, site: Site, given: bytes, reason: str
) -> None:
    blob = site.put(b"the model")
    site.files[blob.digest] = given
    with pytest.raises(SourceError, match="instead of 9") as caught:
        Store(site.url, tmp_path).file(blob)
    assert caught.value.reason == reason
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "md5:" + "0" * 32, "sha256:" + "G" * 64, "sha256:../../etc/passwd"]
)
def test_what_is_no_digest_is_not_asked_for(tmp_path: Path, site: Site, digest: str) -> None:
    with pytest.raises(SourceError, match="is not a digest"):
        Store(site.url, tmp_path).document(digest)
    assert site.fetched == []


def test_a_missing_file_is_told_with_the_stores_answer(tmp_path: Path, site: Site) -> None:
    with pytest.raises(SourceError, match="it answers 404"):
        Store(site.url, tmp_path).document("sha256:" + "0" * 64)


def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    arguments = ["--store", "http://127.0.0.1:9", "--serving", "sha256:" + "0" * 64, "--cache", str(tmp_path)]
    with pods.pod(*arguments) as pod:
        pod.listening()
        pods.wait_for(lambda: pod.health().reason == "StoreUnreachable", "it does not say why")
        assert pod.get("/v2/models/m/ready").status == 503
        assert pod.stop() == 0


# -- loading and warming up, without a process around it ----------------------------------------------


def load(site: Site, serving: str, cache: Path) -> loading.Loaded:
    return loading.load(loading.Remote(site.url, serving, cache), lambda reason, message: None)


def test_a_model_that_does_not_keep_to_its_document_is_not_served(tmp_path: Path, site: Site) -> None:
    serving = site.serving(onnx_models.linear(tmp_path / "m.onnx"), INPUTS, INPUTS)
    with pytest.raises(LoadError, match="has the outputs") as caught:
        load(site, serving, tmp_path / "cache")
    assert caught.value.reason == "SignatureMismatch"


def test_a_pod_that_cannot_serve_its_model_stays_and_says_why(tmp_path: Path, site: Site) -> None:
    (tmp_path / "m.onnx").write_bytes(b"<html>")
    serving = site.serving(tmp_path / "m.onnx", INPUTS, OUTPUTS)
    with pods.pod(*site.arguments(serving, tmp_path / "cache")) as pod:
        pod.listening()
        pods.wait_for(lambda: pod.health().reason == "NotOnnx", "it does not say why")
        assert pod.get("/v2/health/live").status == 200
        assert pod.process.poll() is None


LOCATOR_IN = (TensorSpec("image", "FP32", (1, 1, -1, -1)),)
LOCATOR_OUT = (TensorSpec("labels", "UINT8", (1, -1, -1)),)


def test_a_model_zeros_cannot_warm_up_is_warmed_up_by_its_golden_set(tmp_path: Path, site: Site) -> None:
    golden = {
        "input/image": np.zeros((3, 1, 16, 16), dtype=np.float32),
        "expected/labels": np.zeros((3, 9, 9), np.uint8),
    }
    model = onnx_models.locator(tmp_path / "m.onnx")
    serving = site.serving(model, LOCATOR_IN, LOCATOR_OUT, golden=golden, metric="equal")
    loaded = load(site, serving, tmp_path / "cache")
    assert loaded.run_ms is not None
    assert loaded.run_ms > 0


def test_a_model_that_fails_on_its_golden_set_is_not_served(tmp_path: Path, site: Site) -> None:
    # Zeros fail too: a table without rows has no row 0.
    golden = {"input/index": np.array([99]), "expected/y": np.zeros((1, 4), dtype=np.float32)}
    serving = site.serving(
        onnx_models.table(tmp_path / "m.onnx", rows=0),
        (TensorSpec("index", "INT64", (-1,)),),
        (TensorSpec("y", "FP32", (-1, 4)),),
        golden=golden,
    )
    with pytest.raises(LoadError, match="first sample") as caught:
        load(site, serving, tmp_path / "cache")
    assert caught.value.reason == "WarmUpFailed"


def test_a_model_without_golden_set_is_served_cold_when_zeros_cannot_be_run(
    tmp_path: Path, site: Site
) -> None:
    serving = site.serving(onnx_models.locator(tmp_path / "m.onnx"), LOCATOR_IN, LOCATOR_OUT)
    assert load(site, serving, tmp_path / "cache").run_ms is None


def test_outputs_that_are_no_tensors_are_left_out(tmp_path: Path) -> None:
    engine = Engine.load(onnx_models.with_sequence(tmp_path / "m.onnx"))
    assert [spec.name for spec in engine.outputs] == ["y"]
    assert engine.left_out == ("list",)


def test_a_local_file_that_is_no_model_ends_the_process_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"<html>")
    with pods.pod(str(tmp_path / "m.onnx")) as pod:
        assert pod.process.wait(20) == 1
        pod.stop()
        assert any("NotOnnx: m.onnx is not an ONNX model" in line for line in pod.log)
