"""Open Inference Protocol v2, against a pod as a process of its own."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from edgepod.client import Client
from edgepod.wire import requests
from support import onnx_models, pods
from support.pods import Pod

NUMBERS = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64")
X = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
GOOD = pods.json_request({"x": X})


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    path = onnx_models.linear(tmp_path_factory.mktemp("linear") / "m.onnx")
    with pods.pod(str(path)) as pod:
        yield pod.ready()


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    path = onnx_models.echo(tmp_path_factory.mktemp("echo") / "m.onnx", *NUMBERS, "FP16", "BYTES", rank=2)
    with pods.pod(str(path)) as pod:
        yield pod.ready()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    import onnxruntime

    path = onnx_models.linear(tmp_path_factory.mktemp("raw") / "m.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["scores"], {"x": X})[0])


def test_the_server_says_who_it_is_and_which_extensions_it_knows(linear: Pod) -> None:
    answer = linear.get("/v2")
    assert answer.status == 200
    assert answer.json["name"] == "edgepod"
    assert answer.json["extensions"] == ["binary_tensor_data", "edgefleet_tensor_codec"]


def test_health_and_metadata_are_where_the_protocol_has_them(linear: Pod) -> None:
    assert linear.get("/v2/health/live").json == {"live": True}
    assert linear.get("/v2/health/ready").json == {"ready": True}
    assert linear.get("/v2/models/m/ready").json == {"name": "m", "ready": True}
    assert linear.get("/v2/models/m/versions/1/ready").status == 200
    assert linear.get("/v2/models/m/versions/1").json == {
        "name": "m",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
    }


def test_a_json_request_is_answered_in_json_with_its_id(linear: Pod, expected: np.ndarray) -> None:
    answer = linear.infer(pods.json_request({"x": X}, id="request 7"))
    assert answer.status == 200
    assert answer.json["model_name"] == "m"
    assert answer.json["model_version"] == "1"
    assert answer.json["id"] == "request 7"
    (output,) = answer.json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("scores", "FP32", [2, 10])
    np.testing.assert_array_equal(expected.ravel(), np.array(output["data"], dtype=np.float32))


def test_nested_json_data_means_the_same_as_flat(linear: Pod) -> None:
    flat = linear.infer(GOOD)
    nested = json.loads(GOOD)
    nested["inputs"][0]["data"] = X.tolist()
    assert linear.infer(json.dumps(nested).encode()).json == flat.json


def test_binary_in_and_out(linear: Pod, expected: np.ndarray) -> None:
    with Client(linear.url) as client:
        np.testing.assert_array_equal(expected, client.infer("m", {"x": X}).outputs["scores"])


def test_binary_in_and_json_out_unless_asked(linear: Pod, expected: np.ndarray) -> None:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": [2, 64],
                    "parameters": {"binary_data_size": X.nbytes},
                }
            ]
        }
    ).encode()
    answer = linear.infer(head + X.tobytes(), headers={"Inference-Header-Content-Length": str(len(head))})
    assert answer.headers["content-type"] == "application/json"
    np.testing.assert_allclose(expected.ravel(), answer.json["outputs"][0]["data"], rtol=1e-6)


def test_json_and_binary_inputs_mix(echo: Pod) -> None:
    arrays = {f"in_{name}": np.ones((1, 2), dtype=_dtype(name)) for name in NUMBERS if name != "FP32"}
    floats = np.array([[1.5, -2.5]], dtype=np.float32)
    request = json.loads(pods.json_request(arrays))
    request["inputs"].append(
        {"name": "in_FP32", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    )
    request["inputs"].append(
        {"name": "in_FP16", "datatype": "FP16", "shape": [1, 1], "parameters": {"binary_data_size": 2}}
    )
    request["inputs"].append({"name": "in_BYTES", "datatype": "BYTES", "shape": [1, 1], "data": ["naïve"]})
    request["outputs"] = [
        {"name": "out_BYTES"},
        {"name": "out_FP32", "parameters": {"binary_data": True}},
        {"name": "out_INT64"},
    ]
    head = json.dumps(request).encode()
    body = head + floats.tobytes() + np.float16(1).tobytes()
    answer = echo.infer(body, headers={"Inference-Header-Content-Length": str(len(head))})
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    outputs = json.loads(answer.body[:length])["outputs"]
    assert [output["name"] for output in outputs] == ["out_BYTES", "out_FP32", "out_INT64"]
    assert outputs[0]["data"] == ["naïve"]
    assert outputs[1]["parameters"] == {"binary_data_size": 8}
    assert outputs[2]["data"] == [1, 1]
    assert answer.body[length:] == floats.tobytes()


def _dtype(name: str) -> np.dtype:
    from edgepod.wire import tensors

    return tensors.NUMERIC[name]


def test_every_datatype_survives_the_way_there_and_back(echo: Pod) -> None:
    arrays = {f"in_{name}": np.array([[1], [0]], dtype=_dtype(name)) for name in (*NUMBERS, "FP16")}
    arrays["in_INT64"] = np.array([[-(2**63)], [2**63 - 1]])
    arrays["in_UINT64"] = np.array([[2**64 - 1], [0]], dtype=np.uint64)
    arrays["in_BYTES"] = np.array([["", "ü" * 1000]], dtype=object)
    with Client(echo.url) as client:
        outputs = client.infer("m", arrays).outputs
    for name, array in arrays.items():
        got = outputs[name.replace("in_", "out_")]
        np.testing.assert_array_equal(array, got)
        assert got.dtype == array.dtype


def test_floats_that_json_cannot_say_become_null(echo: Pod) -> None:
    odd = np.array([[np.nan, np.inf, 1.0]])
    body, length = requests.encode(
        {f"in_{n}": np.ones((1, 1), dtype=_dtype(n)) for n in (*NUMBERS, "FP16") if n != "FP64"}
        | {"in_FP64": odd, "in_BYTES": np.array([["a"]], dtype=object)},
        ["out_FP64"],
    )
    head = json.loads(body[:length])
    head["parameters"] = {}
    text = json.dumps(head).encode()
    answer = echo.infer(text + body[length:], headers={"Inference-Header-Content-Length": str(len(text))})
    assert answer.json["outputs"][0]["data"] == [None, None, 1.0]


def test_an_output_without_elements_is_an_answer_too(tmp_path: Path) -> None:
    nothing = np.zeros(5, dtype=np.float32)
    with pods.pod(str(onnx_models.finder(tmp_path / "m.onnx")), "--min-bytes", "1") as pod:
        answer = pod.ready().infer(pods.json_request({"x": nothing}))
        assert answer.json["outputs"] == [{"name": "where", "datatype": "INT64", "shape": [1, 0], "data": []}]
        with Client(pod.url) as client:
            assert client.infer("m", {"x": nothing}).outputs["where"].shape == (1, 0)
            assert client.infer("m", {"x": nothing + 1}).outputs["where"].tolist() == [[0, 1, 2, 3, 4]]


# -- what is wrong is named, and the next good request is served --------------------------------------


def _with(**change: object) -> bytes:
    """The good request, with something changed in its input."""
    request = json.loads(GOOD)
    request["inputs"][0] |= change
    return json.dumps(request).encode()


def _twice() -> bytes:
    request = json.loads(GOOD)
    request["inputs"] *= 2
    return json.dumps(request).encode()


def _raw(data: str) -> bytes:
    return b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,64],"data":%s}]}' % data.encode()


BAD_BODIES = {
    "empty": (b"", "not JSON"),
    "not JSON": (b"hello", "not JSON"),
    "trailing garbage": (GOOD + b"x", "not JSON"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "not JSON"),
    "not UTF-8": (GOOD.replace(b'"x"', b'"\xff"'), "inference request"),
    "lone surrogate": (GOOD.replace(b'"x"', b'"\\ud800"'), "inference request"),
    "a list": (b"[]", "Expected `object`"),
    "no inputs": (b"{}", "missing required field `inputs`"),
    "inputs empty": (b'{"inputs":[]}', "$.inputs"),
    "inputs null": (b'{"inputs":null}', "$.inputs"),
    "id a number": (pods.json_request({"x": X}, id=5), "$.id"),
    "nested 100,000 deep": (_raw("[" * 100_000), "recursion depth"),
    "nested 20 deep": (_raw("[" * 20 + "1" + "]" * 20), "elements"),
    "parameters nested": (pods.json_request({"x": X}, parameters={"a": [[]]}), "$.parameters"),
    "NaN": (GOOD.replace(b"-1.0,", b"NaN,", 1), "not JSON"),
    "a number too large for FP32": (GOOD.replace(b"-1.0,", b"1e300,", 1), "does not fit FP32"),
    "a number too large for anything": (GOOD.replace(b"-1.0,", b"1e999,", 1), "out of range"),
    "a string among numbers": (GOOD.replace(b"-1.0,", b'"a",', 1), "Expected `float`, got `str`"),
    "null among numbers": (GOOD.replace(b"-1.0,", b"null,", 1), "Expected `float`, got `null`"),
    "data an object": (_with(data={}), "data"),
    "data missing": (_raw("1").replace(b',"data":1', b""), "neither data nor"),
    "too few numbers": (_with(data=[1.0] * 127), "127 elements where the shape says 128"),
    "too many numbers": (_with(data=[1.0] * 129), "129 elements where the shape says 128"),
    "rows of different length": (_with(data=[[1.0] * 63, [1.0] * 65]), "axis 1 of the data has 63"),
    "dimension zero": (_with(shape=[0, 64], data=[]), "$.inputs[0].shape[0]"),
    "dimension negative": (_with(shape=[-2, 64]), "$.inputs[0].shape[0]"),
    "dimension a fraction": (_with(shape=[2.5, 64]), "$.inputs[0].shape[0]"),
    "dimension a string": (_with(shape=["2", 64]), "$.inputs[0].shape[0]"),
    "dimension beyond 64 bits": (_with(shape=[2**70, 64]), "shape"),
    "product beyond 64 bits": (_with(shape=[2**40, 2**40]), "more than the data can hold"),
    "33 dimensions": (_with(shape=[1] * 33), "$.inputs[0].shape"),
    "wrong rank": (_with(shape=[128]), "must have the shape [-1, 64]"),
    "wrong width": (_with(shape=[4, 32]), "must have the shape [-1, 64]"),
    "wrong datatype": (_with(datatype="FP64"), "must be FP32, not FP64"),
    "unknown datatype": (_with(datatype="FLOAT"), "datatype must be one of"),
    "FP16 in JSON": (_with(datatype="FP16"), "FP16 has no JSON form"),
    "unknown input": (_with(name="y"), "unknown input 'y'; the model has 'x'"),
    "input twice": (_twice(), "input 'x' is given twice"),
    "unknown output": (
        pods.json_request({"x": X}, outputs=[{"name": "z"}]),
        "unknown output 'z'; the model has 'scores'",
    ),
    "output twice": (pods.json_request({"x": X}, outputs=[{"name": "scores"}] * 2), "requested twice"),
    "binary_data not a boolean": (
        pods.json_request({"x": X}, outputs=[{"name": "scores", "parameters": {"binary_data": 1}}]),
        "binary_data must be true or false",
    ),
    "accept_codec not a string": (
        pods.json_request({"x": X}, parameters={"accept_codec": 4}),
        "accept_codec",
    ),
    "binary size and data": (_with(parameters={"binary_data_size": 512}), "both data and"),
}


@pytest.mark.parametrize(("body", "message"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_named_and_the_next_request_served(linear: Pod, body: bytes, message: str) -> None:
    answer = linear.infer(body)
    assert answer.status == 400, answer.body
    assert message in answer.error
    assert len(answer.error) < 500
    assert linear.infer(GOOD).status == 200


def _binary(size: object, data: bytes = X.tobytes()) -> tuple[bytes, int]:
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [2, 64], "parameters": {"binary_data_size": size}}
            ]
        }
    ).encode()
    return head + data, len(head)


BAD_SIZES = {
    "negative": (-1, X.tobytes(), "whole number"),
    "a fraction": (512.5, X.tobytes(), "whole number"),
    "a boolean": (True, X.tobytes(), "whole number"),
    "a string": ("512", X.tobytes(), "whole number"),
    "more than there is": (2**62, X.tobytes(), "512 bytes are left"),
    "less than the shape takes": (508, X.tobytes()[:508], "takes 512 bytes, but 508 are given"),
    "less than there is": (512, X.tobytes() + b"more", "4 bytes follow"),
}


@pytest.mark.parametrize(("size", "data", "message"), BAD_SIZES.values(), ids=BAD_SIZES.keys())
def test_a_wrong_binary_size_is_named(linear: Pod, size: object, data: bytes, message: str) -> None:
    body, length = _binary(size, data)
    answer = linear.infer(body, headers={"Inference-Header-Content-Length": str(length)})
    assert answer.status == 400
    assert message in answer.error
    assert linear.infer(GOOD).status == 200


@pytest.mark.parametrize("length", ["", "-1", "0", "1e3", "99999999", "0x10", "²", "1" * 500])
def test_a_wrong_header_length_is_named(linear: Pod, length: str) -> None:
    body, _ = _binary(512)
    answer = linear.infer(
        body, headers={"Inference-Header-Content-Length": length.encode("latin-1").decode("latin-1")}
    )
    assert answer.status == 400
    assert "Inference-Header-Content-Length" in answer.error
    assert linear.infer(GOOD).status == 200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x05\0\0\0ab", "longer than the data"),
        (b"\xff\xff\xff\xff", "longer than the data"),
        (b"\x01\0", "longer than the data"),
        (b"\x01\0\0\0a\x01\0\0\0b", "the data has more"),
        (b"\x02\0\0\0\xff\xfe", "is not UTF-8"),
    ],
    ids=["cut short", "four gigabytes declared", "half a length", "one too many", "not text"],
)
def test_bad_strings_are_named(echo: Pod, data: bytes, message: str) -> None:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "in_BYTES",
                    "datatype": "BYTES",
                    "shape": [1, 1],
                    "parameters": {"binary_data_size": len(data)},
                }
            ]
        }
    ).encode()
    answer = echo.infer(head + data, headers={"Inference-Header-Content-Length": str(len(head))})
    assert answer.status == 400
    assert message in answer.error


def test_a_boolean_is_one_byte_zero_or_one(echo: Pod) -> None:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "in_BOOL",
                    "datatype": "BOOL",
                    "shape": [1, 1],
                    "parameters": {"binary_data_size": 1},
                }
            ]
        }
    ).encode()
    answer = echo.infer(head + b"\x02", headers={"Inference-Header-Content-Length": str(len(head))})
    assert (answer.status, "0 or 1" in answer.error) == (400, True)


def test_whole_numbers_must_fit_their_type(echo: Pod) -> None:
    for value in (256, -1):
        body = {"inputs": [{"name": "in_UINT8", "datatype": "UINT8", "shape": [1, 1], "data": [value]}]}
        answer = echo.infer(json.dumps(body).encode())
        assert (answer.status, "does not fit UINT8" in answer.error) == (400, True)


PATHS = {
    "unknown model": ("GET", "/v2/models/other", 404, "this pod serves 'm'"),
    "unknown version": ("GET", "/v2/models/m/versions/2", 404, "this pod serves version '1'"),
    "climbing out": ("GET", "/v2/models/../m", 404, "no such path"),
    "climbing out, escaped": ("GET", "/v2/models/%2e%2e", 404, "is not here"),
    "a zero byte": ("GET", "/v2/models/m%00", 404, "is not here"),
    "nonsense": ("GET", "/v1", 404, "no such path"),
    "inference by GET": ("GET", "/v2/models/m/infer", 405, "only POST"),
    "metadata by DELETE": ("DELETE", "/v2/models/m", 405, "only GET"),
    "inference of another model": ("POST", "/v2/models/other/infer", 404, "is not here"),
    "inference of another version": (
        "POST",
        "/v2/models/m/versions/9/infer",
        404,
        "this pod serves version '1'",
    ),
    "inference too deep": ("POST", "/v2/models/m/versions/1/a/infer", 404, "no such path"),
}


@pytest.mark.parametrize(("method", "path", "status", "message"), PATHS.values(), ids=PATHS.keys())
def test_a_wrong_path_or_method_is_named(
    linear: Pod, method: str, path: str, status: int, message: str
) -> None:
    answer = pods.call(linear.url + path, GOOD if method == "POST" else None, method=method)
    assert answer.status == status
    assert message in answer.error


def test_a_version_may_be_named(linear: Pod) -> None:
    assert pods.call(f"{linear.url}/v2/models/m/versions/1/infer", GOOD).status == 200


def test_a_compressed_body_is_refused_not_guessed_at(linear: Pod) -> None:
    answer = linear.infer(b"\x1f\x8b...", headers={"Content-Encoding": "gzip"})
    assert answer.status == 415


# -- limits of HTTP itself ----------------------------------------------------------------------------


def _talk(pod: Pod, data: bytes) -> bytes:
    """Send raw bytes, return what comes until the other side closes."""
    url = urlsplit(pod.url)
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_a_body_over_the_limit_is_refused_unread(linear: Pod) -> None:
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 70000000\r\n\r\n"
    answer = _talk(linear, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 67108864 bytes" in answer
    assert linear.infer(GOOD).status == 200


def test_a_body_that_grows_over_the_limit_is_refused_while_it_comes(linear: Pod) -> None:
    url = urlsplit(linear.url)
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        with pytest.raises(OSError, match=r"reset|pipe"):
            for _ in range(200):
                connection.sendall(chunk)
    assert linear.infer(GOOD).status == 200
    assert linear.health().rss_bytes < 400 * 2**20


def test_headers_over_the_limit_are_refused(linear: Pod) -> None:
    answer = _talk(linear, b"GET /v2 HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'{"error":' in answer


@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["zeros", "no path", "path not ASCII", "length no number"],
)
def test_what_is_not_http_gets_a_400(linear: Pod, data: bytes) -> None:
    answer = _talk(linear, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error":' in answer
    assert linear.infer(GOOD).status == 200


def test_two_lengths_that_differ_are_refused(linear: Pod) -> None:
    body, length = _binary(512)
    head = (
        f"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {length}\r\nInference-Header-Content-Length: {length + 1}\r\n\r\n"
    )
    answer = _talk(linear, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"given twice" in answer


def test_requests_sent_without_waiting_are_answered_in_order(linear: Pod) -> None:
    one = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /v2/health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = _talk(linear, one * 5 + last)
    assert answer.count(b'{"live":true}') == 5
    assert answer.endswith(b'{"ready":true}')


def test_metrics_can_be_scraped(linear: Pod) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    linear.infer(GOOD)
    text = linear.get("/metrics").body.decode()
    samples = {
        (sample.name, sample.labels.get("result"), sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    ok = samples["edgepod_requests_total", "ok", None]
    assert ok >= 1
    assert (
        samples["edgepod_request_seconds_bucket", None, "+Inf"]
        == samples["edgepod_request_seconds_count", None, None]
    )
    assert samples["edgepod_ready", None, None] == 1


def test_the_health_document_counts_mistakes_as_requests_but_not_as_errors(linear: Pod) -> None:
    before = linear.health()
    linear.infer(GOOD)
    linear.infer(b"{")
    after = linear.health()
    assert after.ready
    assert after.start_id == before.start_id
    assert after.served.requests == before.served.requests + 2
    assert after.served.errors == before.served.errors
    assert sum(after.served.latency) == after.served.requests
    assert after.bytes_in > before.bytes_in
    assert after.rss_bytes > 10_000_000
