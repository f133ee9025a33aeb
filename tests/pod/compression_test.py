"""Compressed outputs: only when asked for, only when it saves, and read without trust."""

import json
from collections.abc import Iterator
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
from edgepod.client import Client
from edgepod.wire import answers, codec, tensors
from edgepod.wire.requests import Wanted
from edgepod.wire.tensors import WireError
from support import onnx_models, pods
from support.pods import Answered, Pod

IMAGE = np.zeros((1, 1, 71, 71), dtype=np.float32)
IMAGE[0, 0, 20:28, 30:38] = 1
ASK = {"Accept-Tensor-Codec": "lz4"}
BINARY = {"binary_data_output": True}


@pytest.fixture(scope="module")
def locator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    path = onnx_models.locator(tmp_path_factory.mktemp("locator") / "m.onnx")
    with pods.pod(str(path)) as pod:
        yield pod.ready()


def _output(answer: Answered) -> tuple[dict[str, object], bytes]:
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:length])["outputs"]
    return output, answer.body[length:]


def test_an_output_is_compressed_when_the_header_asks_and_the_answer_says_so(locator: Pod) -> None:
    output, data = _output(locator.infer(pods.json_request({"image": IMAGE}, parameters=BINARY), headers=ASK))
    assert output["shape"] == [1, 64, 64]
    assert output["parameters"] == {"binary_data_size": len(data), "codec": "lz4", "decoded_size": 4096}
    assert len(data) < 4096 / 2
    assert len(lz4.frame.decompress(data)) == 4096


def test_the_request_may_ask_by_a_parameter_and_one_output_may_decline(locator: Pod) -> None:
    asking = {**BINARY, "accept_codec": "zstd, lz4"}
    output, _ = _output(locator.infer(pods.json_request({"image": IMAGE}, parameters=asking)))
    assert output["parameters"]["codec"] == "lz4"  # type: ignore[index]
    declined = [{"name": "labels", "parameters": {"accept_codec": ""}}]
    output, data = _output(
        locator.infer(pods.json_request({"image": IMAGE}, parameters=asking, outputs=declined))
    )
    assert output["parameters"] == {"binary_data_size": 4096, "codec": "identity"}
    assert len(data) == 4096


def test_nothing_is_compressed_unasked(locator: Pod) -> None:
    output, data = _output(locator.infer(pods.json_request({"image": IMAGE}, parameters=BINARY)))
    assert output["parameters"] == {"binary_data_size": 4096}
    assert len(data) == 4096


def test_an_unknown_codec_is_passed_over(locator: Pod) -> None:
    answer = locator.infer(
        pods.json_request({"image": IMAGE}, parameters=BINARY), headers={"Accept-Tensor-Codec": "brotli"}
    )
    assert _output(answer)[0]["parameters"] == {"binary_data_size": 4096, "codec": "identity"}


def test_a_json_output_stays_json(locator: Pod) -> None:
    answer = locator.infer(pods.json_request({"image": IMAGE}), headers=ASK)
    assert len(answer.json["outputs"][0]["data"]) == 4096


def test_the_client_sees_the_same_labels_either_way_and_how_much_was_saved(locator: Pod) -> None:
    with Client(locator.url) as client:
        packed = client.infer("m", {"image": IMAGE})
        plain = client.infer("m", {"image": IMAGE}, codec=None)
    np.testing.assert_array_equal(plain.outputs["labels"], packed.outputs["labels"])
    assert packed.codecs == {"labels": "lz4"}
    assert packed.wire_bytes < packed.raw_bytes / 2
    assert plain.wire_bytes == plain.raw_bytes


def test_the_health_document_tells_what_compression_saved(locator: Pod) -> None:
    before = locator.health()
    with Client(locator.url) as client:
        answer = client.infer("m", {"image": IMAGE})
    after = locator.health()
    assert after.bytes_out - before.bytes_out == answer.wire_bytes
    assert after.bytes_out_raw - before.bytes_out_raw == answer.raw_bytes


def test_the_server_may_switch_it_off(tmp_path: Path) -> None:
    path = onnx_models.locator(tmp_path / "m.onnx")
    with pods.pod(str(path), "--codec", "none") as pod, Client(pod.ready().url) as client:
        assert client.infer("m", {"image": IMAGE}).codecs == {"labels": "identity"}


def test_outputs_under_the_minimum_are_sent_as_they_are(tmp_path: Path) -> None:
    path = onnx_models.locator(tmp_path / "m.onnx")
    with pods.pod(str(path), "--min-bytes", "4097") as pod, Client(pod.ready().url) as client:
        assert client.infer("m", {"image": IMAGE}).codecs == {"labels": "identity"}


@pytest.mark.parametrize("seed", range(20))
def test_asking_never_makes_an_answer_larger_than_its_two_parameters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 5000))
    array = rng.integers(0, int(rng.integers(1, 256)), size).astype(np.uint8)
    asked = _encode(array, ("lz4",))
    plain = _encode(array, None)
    assert asked.size <= plain.size + len(',"codec":"identity"')
    assert asked.raw_size - plain.size <= len(',"codec":"lz4","decoded_size":5000')
    decoded = answers.decode(b"".join(asked.parts), str(asked.header_length))
    np.testing.assert_array_equal(array, decoded.outputs["y"])


def _encode(array: np.ndarray, codecs: tuple[str, ...] | None) -> answers.Encoded:
    return answers.encode("m", "1", "", [answers.Output("y", array, Wanted(True, codecs))], 1)


# -- reading a frame ----------------------------------------------------------------------------------

DATA = bytes(range(256)) * 40
FRAME = codec.shrink(DATA)
assert FRAME is not None


def _declaring(size: int) -> bytes:
    """A frame whose header says its content has `size` bytes."""
    # python-lz4 writes a size and its checksum for us if it believes that so much will come.
    compressor = lz4.frame.LZ4FrameCompressor()
    return compressor.begin(source_size=size)


def test_a_frame_that_declares_a_terabyte_takes_no_memory() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**28, before[1]))
    try:
        with pytest.raises(WireError, match="of the 1000 bytes"):
            codec.expand(_declaring(2**40), 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_whole_frame_is_read() -> None:
    assert codec.expand(FRAME, len(DATA)) == DATA


BROKEN = {
    "empty": (b"", 10, "holds 0 of the 10"),
    "not a frame": (b"hello world, this is no frame", 10, "not an lz4 frame"),
    "cut short": (FRAME[:-20], len(DATA), "of the 10240 bytes"),
    "more than the tensor": (FRAME, len(DATA) - 1, "more than the 10239 bytes"),
    "less than the tensor": (FRAME, len(DATA) + 1, "10240 of the 10241"),
    "a second frame behind it": (FRAME + FRAME, len(DATA), "bytes follow"),
    "garbage behind it": (FRAME + b"x", len(DATA), "bytes follow"),
    "reserved bit set": (FRAME[:4] + bytes([FRAME[4] | 0x02]) + FRAME[5:], len(DATA), "not an lz4 frame"),
    "header checksum wrong": (
        FRAME[:14] + bytes([FRAME[14] ^ 1]) + FRAME[15:],
        len(DATA),
        "not an lz4 frame",
    ),
}


@pytest.mark.parametrize(("frame", "size", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_frame_is_named(frame: bytes, size: int, message: str) -> None:
    with pytest.raises(WireError, match=message):
        codec.expand(frame, size)


def test_a_bomb_is_cut_off_at_the_size_of_its_tensor() -> None:
    import tracemalloc

    bomb = lz4.frame.compress(bytes(256 * 2**20))
    tracemalloc.start()
    with pytest.raises(WireError, match="more than the 1000 bytes"):
        codec.expand(bomb, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20  # the frame itself is one MiB


def _answer(**parameters: object) -> tuple[bytes, str]:
    output = {"name": "y", "datatype": "UINT8", "shape": [len(DATA)], "parameters": parameters}
    head = json.dumps({"model_name": "m", "outputs": [output]}).encode()
    return head + FRAME, str(len(head))


LIES = {
    "a terabyte": ({"decoded_size": 2**40}, "decoded_size must be a number up to"),
    "negative": ({"decoded_size": -1}, "decoded_size must be a number up to"),
    "no size": ({}, "decoded_size must be a number up to"),
    "a string": ({"decoded_size": "10240"}, "decoded_size must be a number up to"),
    "not the tensor's": ({"decoded_size": 10239}, "more than the 10239"),
    "a codec nobody asked for": ({"decoded_size": 10240, "codec": "zstd"}, "unknown codec"),
    "more bytes than there are": ({"decoded_size": 10240, "binary_data_size": 10**9}, "bytes are left"),
}


@pytest.mark.parametrize(("parameters", "message"), LIES.values(), ids=LIES.keys())
def test_an_answer_that_lies_about_sizes_is_refused(parameters: dict[str, object], message: str) -> None:
    body, length = _answer(**{"binary_data_size": len(FRAME), "codec": "lz4", **parameters})
    with pytest.raises(WireError, match=message):
        answers.decode(body, length)


def test_all_outputs_together_stay_under_the_readers_limit() -> None:
    output = answers.Output("y", np.zeros(1000, dtype=np.uint8), Wanted(True, ("lz4",)))
    encoded = answers.encode("m", "1", "", [output] * 3, 1)
    with pytest.raises(WireError, match="up to 0"):
        answers.decode(b"".join(encoded.parts), str(encoded.header_length), max_bytes=2000)


def test_every_type_packs_and_unpacks() -> None:
    for dtype in tensors.NUMERIC.values():
        array = np.zeros((3, 500), dtype=dtype)
        encoded = _encode(array, ("lz4",))
        decoded = answers.decode(b"".join(encoded.parts), str(encoded.header_length))
        np.testing.assert_array_equal(array, decoded.outputs["y"])
    text = np.array(["same"] * 500, dtype=object)
    encoded = _encode(text, ("lz4",))
    decoded = answers.decode(b"".join(encoded.parts), str(encoded.header_length))
    assert decoded.codecs == {"y": "lz4"}
    assert decoded.outputs["y"].tolist() == text.tolist()
