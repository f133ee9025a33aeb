"""Overload, slow models, callers who leave, and the end of a pod."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from edgepod.client import Client, Refused
from support import onnx_models, pods
from support.pods import Pod

X = np.ones((1, 64), dtype=np.float32)
FOREVER = 2**62


def turns(count: int) -> bytes:
    return pods.json_request({"rounds": np.array(count)})


def warmed(pod: Pod) -> Pod:
    """A pod that has seen that runs are long, and moves them off its event loop."""
    pod.ready()
    rounds = 2000
    while pod.infer(turns(rounds)).status == 200 and pod.health().served.requests < 3:
        rounds *= 4
    return pod


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(onnx_models.spinner(tmp_path_factory.mktemp("spinner") / "m.onnx"))


@pytest.fixture(scope="module")
def spinner(model: str) -> Iterator[Pod]:
    with pods.pod(model, "--max-requests", "4", "--timeout", "1.5") as pod:
        yield warmed(pod)


def test_a_run_that_takes_too_long_is_ended_and_the_next_one_served(spinner: Pod) -> None:
    answer = spinner.infer(turns(FOREVER))
    assert answer.status == 504
    assert "within 1.5 s" in answer.error
    assert spinner.infer(turns(3)).json["outputs"][0]["data"] == [3]


def test_probes_are_answered_while_the_model_is_busy(spinner: Pod) -> None:
    with ThreadPoolExecutor(1) as callers:
        busy = callers.submit(spinner.infer, turns(FOREVER))
        time.sleep(0.2)
        assert spinner.get("/v2/health/live").status == 200
        assert spinner.get("/v2/health/ready").status == 200
        assert not busy.done()


def test_more_than_the_pod_takes_on_is_refused_at_once_and_told_when_to_come_back(spinner: Pod) -> None:
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: spinner.infer(turns(FOREVER)), range(8)))
    refused = [answer for answer in answers if answer.status == 503]
    assert 4 <= len(refused) < 8
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert "the limit of this pod" in refused[0].error
    assert spinner.infer(turns(3)).status == 200


def test_an_answer_nobody_reads_keeps_its_place_until_its_caller_is_gone(tmp_path: Path) -> None:
    size = 12_000_000  # more than the sockets' buffers hold
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "in_UINT8",
                    "shape": [size],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": size},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    request = (
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nInference-Header-Content-Length: %d\r\n"
        b"Content-Length: %d\r\n\r\n" % (len(head), len(head) + size)
    ) + head
    small = pods.json_request({"in_UINT8": np.ones(1, dtype=np.uint8)})
    with pods.pod(str(onnx_models.echo(tmp_path / "m.onnx", "UINT8")), "--max-requests", "1") as pod:
        url = urlsplit(pod.ready().url)
        with socket.create_connection((url.hostname, url.port)) as lazy:
            lazy.sendall(request + bytes(size))
            assert lazy.recv(12) == b"HTTP/1.1 200"
            assert pod.infer(small).status == 503
        pods.wait_for(lambda: pod.infer(small).status == 200, "the place was not given back")


def test_a_run_ends_when_its_caller_leaves(model: str) -> None:
    body = turns(FOREVER)
    with pods.pod(model, "--max-requests", "1", "--timeout", "600") as pod:
        url = urlsplit(warmed(pod).url)
        with socket.create_connection((url.hostname, url.port)) as connection:
            connection.sendall(
                b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body
            )
            pods.wait_for(lambda: pod.infer(turns(3)).status == 503, "the run did not begin")
        pods.wait_for(lambda: pod.infer(turns(3)).status == 200, "the run went on without its caller")


def test_a_model_that_fails_on_an_input_is_a_500_and_the_next_one_is_served(tmp_path: Path) -> None:
    with pods.pod(str(onnx_models.table(tmp_path / "m.onnx"))) as pod:
        bad = pod.ready().infer(pods.json_request({"index": np.array([99])}))
        assert bad.status == 500
        assert "the model failed on this input" in bad.error
        assert pod.infer(pods.json_request({"index": np.array([1])})).status == 200
        assert pod.health().served.errors == 1


def test_sigterm_loses_no_request(tmp_path: Path) -> None:
    """Callers go on for as long as the pod takes connections; every request it took is answered."""
    failures: list[str] = []
    closed = threading.Event()
    answered = [0] * 4

    def caller(index: int, url: str) -> None:
        while not closed.is_set():
            try:
                with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)):
                    pass
            except ConnectionRefusedError:
                return  # in a cluster, the Service has long named another pod
            try:
                with Client(url) as client:
                    for _ in range(50):
                        client.infer("m", {"x": X})
                        answered[index] += 1
            except Exception as error:  # noqa: BLE001 (whatever it is, a request was lost)
                failures.append(repr(error))

    with pods.pod(str(onnx_models.linear(tmp_path / "m.onnx"))) as pod:
        url = pod.ready().url
        callers = [threading.Thread(target=caller, args=(index, url)) for index in range(4)]
        for thread in callers:
            thread.start()
        pods.wait_for(lambda: min(answered) > 20, "callers get no answers")
        pod.process.terminate()
        pods.wait_for(lambda: any("draining" in line for line in pod.log), "it does not drain")
        before = sum(answered)
        health = pod.health()
        assert (health.ready, health.reason) == (False, "Draining")
        ready = pod.get("/v2/health/ready")
        assert (ready.status, ready.headers["connection"]) == (503, "close")
        pods.wait_for(lambda: sum(answered) > before + 20, "it does not answer while draining")
        closed.set()  # from here on the pod is out of the Service
        for thread in callers:
            thread.join()
        assert pod.process.wait(20) == 0
    assert failures == []


def test_sigterm_waits_for_a_run_that_is_under_way(tmp_path: Path) -> None:
    with (
        pods.pod(str(onnx_models.spinner(tmp_path / "m.onnx")), "--timeout", "4") as pod,
        ThreadPoolExecutor(1) as callers,
    ):
        pod.ready()
        slow = callers.submit(pod.infer, turns(FOREVER))
        time.sleep(0.3)
        pod.process.terminate()
        assert slow.result().status == 504
        assert pod.process.wait(20) == 0


def test_a_pod_ends_while_it_waits_for_its_store(tmp_path: Path) -> None:
    arguments = ["--store", "http://127.0.0.1:9", "--serving", "sha256:" + "0" * 64, "--cache", str(tmp_path)]
    with pods.pod(*arguments) as pod:
        pod.listening()
        assert pod.stop() == 0


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pods.pod(str(onnx_models.linear(tmp_path / "m.onnx")), "--port", str(port)) as pod:
            assert pod.process.wait(20) == 1
            pod.stop()
            assert any(f"cannot listen on 127.0.0.1:{port}" in line for line in pod.log), pod.log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to serve"),
        (["m.onnx", "--store", "http://a"], "say what to serve"),
        (["--store", "http://a"], "--store needs --serving"),
        (["--store", "ftp://a", "--serving", "x"], "must be an http:// or https:// URL"),
        (["m.onnx", "--agent", "http://a"], "--agent and --workload go together"),
        (["m.onnx", "--name", "a/b"], "is no name for a model"),
        (["m.onnx", "--max-requests", "0"], "0 is not between 1 and"),
    ],
)
def test_wrong_arguments_are_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgepod import main

    with pytest.raises(SystemExit) as caught:
        main.run(["serve", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_client_says_what_went_wrong(tmp_path: Path) -> None:
    from edgepod.client import Unreachable

    with pods.pod(str(onnx_models.linear(tmp_path / "m.onnx"))) as pod, Client(pod.ready().url) as client:
        assert client.ready()
        assert client.metadata("m")["name"] == "m"
        with pytest.raises(Refused, match=r"404: .*serves 'm'") as caught:
            client.infer("other", {"x": X})
        assert caught.value.status == 404
    with Client("http://127.0.0.1:9") as nobody:
        assert not nobody.ready()
        with pytest.raises(Unreachable):
            nobody.infer("m", {"x": X})
