"""Parts of the pod by themselves, where a whole pod would hide what is meant."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from edgepod import agreement, body, cgroup, golden, onnxfile, upstream
from edgepod.admission import Gate, Overloaded, TooLarge
from edgepod.contract import TensorSpec
from edgepod.engine import Engine, LoadError, RunError
from hypothesis import given, settings
from hypothesis import strategies as st
from support import onnx_models

# -- limits of the container --------------------------------------------------------------------------


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CGROUPS = {
    "version 2, in a container": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n", "sys/fs/cgroup/memory.max": "268435456\n"},
        1.5,
        2**28,
    ),
    "version 2, the outer group is stricter": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/memory.max": "1000\n",
        },
        0.5,
        1000,
    ),
    "version 1, the path is the host's": (
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/kubepods/pod1\n4:memory:/kubepods/pod1\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
        2.0,
        None,
    ),
    "version 1, no limit": (
        {"proc/self/cgroup": "5:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
        None,
        None,
    ),
    "nothing there": ({}, None, None),
}  # fmt: skip


@pytest.mark.parametrize(("files", "cpus", "memory"), CGROUPS.values(), ids=CGROUPS.keys())
def test_the_limits_of_the_container_are_found(
    tmp_path: Path, files: dict[str, str], cpus: float | None, memory: int | None
) -> None:
    root = _write(tmp_path, files)
    assert cgroup.cpu_limit(root) == cpus
    assert cgroup.memory_limit(root) == memory


def test_there_is_at_least_one_thread_and_never_more_than_whole_cpus(tmp_path: Path) -> None:
    for quota, threads in (("20000", 1), ("100000", 1), ("199999", 1)):
        root = _write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
        assert cgroup.threads(root) == threads


# -- ONNX files ---------------------------------------------------------------------------------------


def test_a_tensor_in_another_file_is_found_wherever_it_hides(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    def external(name: str) -> TensorProto:
        tensor = helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
        return tensor

    plain = onnx.load(onnx_models.linear(tmp_path / "plain.onnx"))
    hidden = {
        "a constant": helper.make_node("Constant", [], ["c"], value=external("c")),
        "a branch": helper.make_node(
            "If",
            ["b"],
            ["c"],
            then_branch=helper.make_graph(
                [helper.make_node("Constant", [], ["d"], value=external("d"))], "then", [], []
            ),
        ),
        "a sparse constant": helper.make_node(
            "Constant",
            [],
            ["c"],
            sparse_value=helper.make_sparse_tensor(
                external("v"), helper.make_tensor("i", TensorProto.INT64, [1], [0]), [1]
            ),
        ),
    }
    onnxfile.check(tmp_path / "plain.onnx")
    for place, node in hidden.items():
        model = onnx.ModelProto()
        model.CopyFrom(plain)
        model.graph.node.append(node)
        path = tmp_path / "hidden.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(onnxfile.ExternalData, match="kept in another file"):
            onnxfile.check(path)
        with pytest.raises(LoadError) as caught:
            Engine.load(path)
        assert caught.value.reason == "ExternalData", place


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.linear(tmp_path_factory.mktemp("any") / "m.onnx")


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(0, 5000), flip=st.integers(0, 2**16))
def test_any_bytes_are_judged_and_never_crash(linear: Path, data: bytes, cut: int, flip: int) -> None:
    path = linear.with_name("changed.onnx")
    model = bytearray(linear.read_bytes())
    model[flip % len(model)] ^= 1 + flip % 255
    for content in (data, bytes(model), bytes(model[: cut % len(model)])):
        path.write_bytes(content)
        try:
            onnxfile.check(path)
        except (onnxfile.NotOnnx, onnxfile.ExternalData):
            continue


def test_a_model_fails_by_run_errors_and_memory_errors_only(tmp_path: Path) -> None:
    engine = Engine.load(onnx_models.table(tmp_path / "m.onnx"))
    with pytest.raises(RunError, match=r"out of (data )?bounds"):
        engine.run({"index": np.array([99])}, ["y"])
    assert engine.run({"index": np.array([1])}, ["y"])[0].tolist() == [[4.0, 5.0, 6.0, 7.0]]


# -- agreement ----------------------------------------------------------------------------------------

NAN = float("nan")
AGREEMENTS = {
    "top1: same place": ([[1, 2], [3, 1]], [[0, 9], [2, 1]], "top1", 1.0),
    "top1: one of two": ([[1, 2], [3, 1]], [[0, 9], [1, 2]], "top1", 0.5),
    "top1: a NaN agrees with nothing": ([[NAN, 2]], [[NAN, 2]], "top1", 0.0),
    "top1: one column is compared by closeness": ([[1.0], [2.0]], [[1.05], [3.0]], "top1", 0.5),
    "close: within": ([1.0, 2.0], [1.05, 2.5], "close", 0.5),
    "close: a NaN agrees with nothing": ([NAN], [NAN], "close", 0.0),
    "close: infinities agree": ([np.inf], [np.inf], "close", 1.0),
    "equal": ([1.0, 2.0], [1.0, 2.1], "equal", 0.5),
    "another shape": ([1.0, 2.0], [[1.0, 2.0]], "equal", 0.0),
}


@pytest.mark.parametrize(("got", "want", "metric", "share"), AGREEMENTS.values(), ids=AGREEMENTS.keys())
def test_agreement_by_metric(got: list[float], want: list[float], metric: str, share: float) -> None:
    one, other = np.array(got, dtype=np.float32), np.array(want, dtype=np.float32)
    assert agreement.share(one, other, metric, rtol=0.1, atol=0.0) == pytest.approx(share)


@pytest.mark.parametrize("metric", ["top1", "equal", "close"])
def test_whole_numbers_and_strings_agree_when_equal_whatever_the_metric(metric: str) -> None:
    assert agreement.share(np.array([1, 2, 3]), np.array([1, 2, 4]), metric, 1.0, 1.0) == pytest.approx(2 / 3)
    text = np.array(["a", "b"], dtype=object)
    assert agreement.share(text, np.array(["a", "c"], dtype=object), metric) == 0.5


def test_live_answers_agree_when_99_percent_of_every_output_does() -> None:
    labels = np.zeros(1000, dtype=np.uint8)
    nearly, hardly = labels.copy(), labels.copy()
    nearly[:10] = 1
    hardly[:11] = 1
    assert agreement.live({"l": labels}, {"l": nearly})
    assert not agreement.live({"l": labels}, {"l": hardly})
    assert not agreement.live({"l": labels}, {"l": labels, "more": labels})
    assert not agreement.live({"l": labels}, {"l": labels.astype(np.float32)})


def test_a_golden_set_is_cut_into_what_the_model_takes(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.savez(tmp_path / "g.npz", **{"input/x": x, "expected/y": x})
    shapes = {(-1, 4): [(1, 4)] * 6, (2, 4): [(2, 4)] * 3, (4,): [(4,)] * 6, (5, 4): [(5, 4)]}
    for shape, expected in shapes.items():
        data = golden.GoldenSet(tmp_path / "g.npz", [TensorSpec("x", "FP32", shape)])
        assert [sample.inputs["x"].shape for sample in data] == expected
    with pytest.raises(golden.GoldenInvalid, match="takes 7 samples at once"):
        golden.GoldenSet(tmp_path / "g.npz", [TensorSpec("x", "FP32", (7, 4))])


# -- bodies -------------------------------------------------------------------------------------------


def _receive(*pieces: tuple[bytes, bool], pause: float = 0.0) -> Callable[[], Awaitable[body.Message]]:
    left = list(pieces)

    async def receive() -> body.Message:
        await asyncio.sleep(pause)
        if not left:
            return {"type": "http.disconnect"}
        data, more = left.pop(0)
        return {"type": "http.request", "body": data, "more_body": more}

    return receive


def _headers(**values: bytes) -> body.Headers:
    return body.Headers([(name.replace("_", "-").encode(), value) for name, value in values.items()])


async def test_pieces_of_a_body_are_put_together() -> None:
    with Gate().enter() as place:
        assert (
            await body.read(_receive((b"ab", True), (b"", True), (b"c", False)), _headers(), place) == b"abc"
        )


async def test_a_caller_who_leaves_is_noticed() -> None:
    with Gate().enter() as place, pytest.raises(body.ClientGone):
        await body.read(_receive((b"ab", True)), _headers(), place)


async def test_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "IDLE_SECONDS", 0.02)
    with Gate().enter() as place, pytest.raises(body.TooSlow):
        await body.read(_receive((b"a", True), (b"b", True), pause=0.1), _headers(), place)


async def test_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "TOTAL_SECONDS", 0.1)
    started = time.monotonic()
    with Gate().enter() as place, pytest.raises(body.TooSlow):
        await body.read(_receive(*[(b"a", True)] * 1000, pause=0.01), _headers(), place)
    assert time.monotonic() - started < 5


async def test_a_declared_length_is_believed_only_to_refuse() -> None:
    gate = Gate(max_body=100)
    with gate.enter() as place, pytest.raises(TooLarge):
        await body.read(_receive((b"a", False)), _headers(content_length=b"101"), place)
    with gate.enter() as place, pytest.raises(body.StreamTooLarge):
        await body.read(_receive((b"a" * 60, True), (b"a" * 60, True)), _headers(), place)
    assert (gate.requests, gate.bytes) == (0, 0)


def test_bodies_under_way_share_one_limit_of_bytes() -> None:
    gate = Gate(max_requests=3, max_bytes=100, max_body=80)
    with gate.enter() as one, gate.enter() as other:
        one.reserve(60)
        with pytest.raises(Overloaded, match="hold 60 bytes"):
            other.reserve(41)
        other.reserve(40)
        with gate.enter(), pytest.raises(Overloaded, match="3 requests are under way"):
            gate.enter()
    assert (gate.requests, gate.bytes) == (0, 0)


# -- connections --------------------------------------------------------------------------------------


@asynccontextmanager
async def _guarded() -> AsyncIterator[int]:
    """The pod's connections in front of an application that answers "hi"; yields the port."""
    from edgepod import connections
    from uvicorn.server import ServerState

    async def app(
        scope: object, receive: object, send: Callable[[dict[str, object]], Awaitable[None]]
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})

    loop, config, state = asyncio.get_running_loop(), connections.config(app, "127.0.0.1", 0), ServerState()
    server = await loop.create_server(
        lambda: connections.GuardedConnection(config, state, {}, loop), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0.01)


async def _drip(port: int, pieces: list[bytes], pause: float) -> bytes:
    """Send piece by piece; what comes back until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        received = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return received


async def test_headers_that_drip_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepod import connections

    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    async with _guarded() as port:
        started = time.monotonic()
        assert await _drip(port, [b"GET / HTTP/1.1\r\nHost: a\r\n", *[b"X: y\r\n"] * 20], 0.02) == b""
        assert time.monotonic() - started < 4
        assert b"hi" in await _drip(
            port, [b"GET / HTTP/1.1\r\nHost: a\r\n", b"Connection: close\r\n\r\n"], 0.02
        )


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepod import connections

    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.1)
    async with _guarded() as port:
        started = time.monotonic()
        assert await _drip(port, [], 0) == b""
        assert time.monotonic() - started < 4


# -- the HTTP client of the splitter ------------------------------------------------------------------


@asynccontextmanager
async def _server(answer: bytes, *, close: bool = False) -> AsyncIterator[str]:
    """Gives this answer to whatever it is asked; yields its URL."""
    writers = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
                await writer.drain()
                if close:
                    break
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await asyncio.sleep(0.01)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
ODD_ANSWERS = {
    "nonsense": b"hello\r\n\r\n",
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi",
    "nothing": b"",
    "no length": b"HTTP/1.1 200 OK\r\n\r\nhi",
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS.keys())
async def test_an_answer_that_is_not_whole_is_none(answer: bytes) -> None:
    async with _server(answer, close=True) as url:
        with pytest.raises(upstream.Unreachable):
            await upstream.Upstream(url).request("GET", "/", b"", (), 2.0)


async def test_connections_are_kept_and_renewed_when_the_other_side_closed_them() -> None:
    async with _server(OK, close=True) as url:
        there = upstream.Upstream(url)
        for _ in range(3):
            assert (await there.request("GET", "/", b"", (), 2.0)).body == b"hi"
        there.close()


async def test_an_answer_before_the_answer_is_passed_over() -> None:
    async with _server(b"HTTP/1.1 100 Continue\r\n\r\n" + OK) as url:
        there = upstream.Upstream(url)
        answer = await there.request("GET", "/", b"", (), 2.0)
        assert (answer.status, answer.body) == (200, b"hi")
        there.close()


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "MAX_ANSWER", 1000)
    chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1f4\r\n" + b"x" * 500 + b"\r\n") * 5
    async with _server(chunk) as url:
        with pytest.raises(upstream.Unreachable, match="larger than 1000"):
            await upstream.Upstream(url).request("GET", "/", b"", (), 2.0)


async def test_silence_ends_at_the_deadline() -> None:
    async with _server(b"") as url:
        with pytest.raises(TimeoutError):
            await upstream.Upstream(url).request("GET", "/", b"", (), 0.1)


@pytest.mark.parametrize(
    "url", ["", "ftp://a", "https://a", "http://", "http://user@a", "http://a?b", "/etc/passwd"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        upstream.Upstream(url)
