"""Pods as processes of their own, with what they get in a site: a store, an agent, other pods."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from edgepod.contract import Blob, Golden, HealthDocument, ServingDocument, TensorSpec, TrafficLease
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
DEADLINE = 20.0


@dataclass
class Answered:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of a refusal."""
        text = self.json["error"]
        assert isinstance(text, str)
        return text


def call(
    url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None, method: str | None = None
) -> Answered:
    """One HTTP request; an error status is an answer like any other."""
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return Answered(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answered(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def wait_for(what: Callable[[], object], message: str, seconds: float = DEADLINE) -> None:
    """Wait until `what` returns something true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, message
        time.sleep(0.02)


class Pod:
    """`edgepod serve` as a child process on a free port."""

    def __init__(self, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "edgepod", "serve", "--host", "127.0.0.1", "--port", "0", *arguments]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        self.url = ""
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.log.append(line.rstrip())
                if found := re.search(r"listening on (http://\S+)", line):
                    self.url = found[1]
                    self._listening.set()
        self._listening.set()

    def listening(self) -> "Pod":
        """Wait until it listens."""
        assert self._listening.wait(DEADLINE), f"it does not listen: {self.log}"
        assert self.url, f"it ended: {self.log}"
        return self

    def ready(self) -> "Pod":
        """Wait until it is ready."""
        self.listening()
        wait_for(lambda: self.get("/v2/health/ready").status == 200, "it does not get ready")
        return self

    def get(self, path: str) -> Answered:
        """GET."""
        return call(self.url + path)

    def infer(self, data: bytes, model: str = "m", headers: Mapping[str, str] | None = None) -> Answered:
        """POST to the infer endpoint."""
        return call(f"{self.url}/v2/models/{model}/infer", data, headers)

    def health(self) -> HealthDocument:
        """Its counters."""
        return HealthDocument.from_json(self.get("/edgefleet/v1/health").body)

    def stop(self) -> int:
        """End it without the patience of SIGTERM. Returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._reader.join(DEADLINE)
        return status


@contextmanager
def pod(*arguments: str) -> Iterator[Pod]:
    """A pod with these arguments, until the end of the `with`."""
    running = Pod(arguments)
    try:
        yield running
    finally:
        running.stop()


def json_request(arrays: Arrays, **more: object) -> bytes:
    """An infer request in plain JSON."""
    inputs = [
        {
            "name": name,
            "datatype": _datatype(array),
            "shape": list(array.shape),
            "data": array.reshape(-1).tolist(),
        }
        for name, array in arrays.items()
    ]
    return json.dumps({"inputs": inputs, **more}).encode()


def _datatype(array: NDArray[Any]) -> str:
    from edgepod.wire import tensors

    return tensors.datatype_of(array)


# -- what a site offers -------------------------------------------------------------------------------


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port of loopback; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Site:
    """A store and an agent on one port. Files and leases can be changed while pods run."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    leases: dict[str, TrafficLease] = field(default_factory=dict)
    raw_leases: dict[str, bytes] = field(default_factory=dict)

    def put(self, data: bytes) -> Blob:
        """Put a file into the store."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.files[digest] = data
        return Blob(digest, len(data))

    def serving(
        self,
        model: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        golden: Arrays | None = None,
        metric: str = "top1",
        revision: str = "rev0000001",
        version: str = "1",
        name: str = "m",
        **more: Any,
    ) -> str:
        """Put a model, its golden set and its serving document into the store; returns the document's digest."""
        document = ServingDocument(
            name=name,
            revision=revision,
            version=version,
            model=self.put(model.read_bytes()),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            **more,
        )
        if golden is not None:
            document = replace(document, golden=self.golden(golden, metric))
        return self.put(document.to_json()).digest

    def golden(self, arrays: Arrays, metric: str) -> Golden:
        """Put a golden set into the store."""
        import io

        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's hint knows only its own keyword
        return Golden(self.put(buffer.getvalue()), len(next(iter(arrays.values()))), metric)

    def arguments(self, serving: str, cache: Path) -> list[str]:
        """Command line of a pod or a self-test."""
        return ["--store", self.url, "--serving", serving, "--cache", str(cache)]

    def agent(self, workload: str) -> list[str]:
        """Command line of a pod that shares traffic."""
        return ["--agent", self.url, "--workload", workload]


@contextmanager
def site() -> Iterator[Site]:
    """A site without Kubernetes: what its pods see of it."""
    here = Site()

    class Handler(_Quiet):
        def do_GET(self) -> None:
            *_, kind, name = self.path.split("/")
            if kind == "sha256":
                here.fetched.append(name)
                data = here.files.get(f"sha256:{name}")
            elif name in here.raw_leases:
                data = here.raw_leases[name]
            else:
                data = here.leases[name].to_json() if name in here.leases else None
            self.answer(404 if data is None else 200, data or b"")

    with http_server(Handler) as url:
        here.url = url
        yield here
