"""The HTTP face: Open Inference Protocol v2, metrics and health document, as a plain ASGI application.

Maps paths to the data plane and outcomes to statuses; decides nothing about models. Every refusal has the body
`{"error": "…"}`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

import edgepod
from edgepod import admission, body, dataplane, splitter
from edgepod.contract import HEALTH_PATH, TensorSpec
from edgepod.dataplane import Result
from edgepod.wire import requests
from edgepod.wire.requests import Request
from edgepod.wire.tensors import Array, Buffer, WireError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

EXTENSIONS: Final = ("binary_tensor_data", "edgefleet_tensor_codec")
_JSON: Final = (b"content-type", b"application/json")
_SENT_AT_ONCE: Final = 64 * 1024
"""Bytes an answer may leave in the transport when its request is over: what asyncio buffers before it pauses."""
_CLOSING: Final = (body.TooSlow, body.StreamTooLarge)
"""After these the rest of the body may still come; it must not be read as the next request."""
_STATUSES: Final[Mapping[type[Exception], int]] = {
    WireError: 400,
    body.BadHeader: 400,
    dataplane.BadInput: 400,
    dataplane.UnknownModel: 404,
    body.TooSlow: 408,
    admission.TooLarge: 413,
    body.StreamTooLarge: 413,
    body.UnsupportedEncoding: 415,
    dataplane.ModelFailed: 500,
    admission.Overloaded: 503,
    dataplane.NotReady: 503,
    dataplane.TimedOut: 504,
}
_REFUSALS: Final = tuple(_STATUSES)


class Reply(msgspec.Struct, frozen=True):
    """One HTTP answer."""

    status: int
    parts: tuple[Buffer, ...]
    size: int
    """Bytes of the body."""
    headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)
    raw_size: int | None = None
    """Size without compression."""
    arrays: Mapping[str, Array] | None = None
    """What an inference answer says, for the comparison with a canary."""


class App:
    """ASGI application for one data plane."""

    def __init__(
        self, plane: dataplane.Plane, gate: admission.Gate, canary: splitter.Splitter | None = None
    ) -> None:
        self._plane, self._gate, self._canary = plane, gate, canary

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        parts = scope["path"].split("/")
        if parts[-1] == "infer" and scope["method"] == "POST":
            await self._infer(parts, scope, receive, send)
            return
        try:
            reply = self._route(parts, scope["method"])
        except _REFUSALS as error:
            reply = refusal(error)
        await self._send(send, reply, head_only=scope["method"] == "HEAD")

    # -- everything but inference ---------------------------------------------------------------------

    def _route(self, parts: Sequence[str], method: str) -> Reply:
        match parts:
            case ["", "v2"]:
                answer = self._server
            case ["", "v2", "health", "live"]:
                answer = _live
            case ["", "v2", "health", "ready"]:
                answer = self._ready
            case ["", "v2", "models", name, *rest]:
                return self._model_route(name, rest, method)
            case ["", "metrics"]:
                answer = self._metrics
            case _ if "/".join(parts) == HEALTH_PATH:
                answer = self._health
            case _:
                return error_reply(404, "no such path; the server's metadata is at /v2")
        return answer() if method in ("GET", "HEAD") else _not_allowed("GET")

    def _model_route(self, name: str, rest: Sequence[str], method: str) -> Reply:
        versioned = len(rest) >= 2 and rest[0] == "versions"
        version, rest = (rest[1], rest[2:]) if versioned else (None, rest)
        if rest == ["infer"]:
            return _not_allowed("POST")
        if rest not in ([], ["ready"]):
            return error_reply(404, "no such path; the server's metadata is at /v2")
        if method not in ("GET", "HEAD"):
            return _not_allowed("GET")
        identity = self._named(name, version)
        if rest == ["ready"]:
            return json_reply(
                {"name": identity.name, "ready": self._plane.ready}, 200 if self._plane.ready else 503
            )
        engine = self._plane.engine()
        return json_reply(
            {
                "name": identity.name,
                "versions": [identity.version],
                "platform": "onnxruntime_onnx",
                "inputs": [_tensor(spec) for spec in engine.inputs],
                "outputs": [_tensor(spec) for spec in engine.outputs],
            }
        )

    def _named(self, name: str, version: str | None) -> dataplane.Identity:
        identity = self._plane.identity
        if identity is None:
            raise dataplane.NotReady(self._plane.message)
        if name != identity.name:
            raise dataplane.UnknownModel(
                f"model {name[:60]!r} is not here; this pod serves {identity.name!r}"
            )
        if version is not None and version != identity.version:
            raise dataplane.UnknownModel(
                f"version {version[:60]!r} of model {name!r} is not here; this pod serves version {identity.version!r}"
            )
        return identity

    def _server(self) -> Reply:
        return json_reply({"name": "edgepod", "version": edgepod.__version__, "extensions": EXTENSIONS})

    def _ready(self) -> Reply:
        if self._plane.ready:
            return json_reply({"ready": True})
        return json_reply({"ready": False, "error": f"{self._plane.reason}: {self._plane.message}"}, 503)

    def _health(self) -> Reply:
        document = self._plane.health()
        if self._canary is not None:
            document = replace(document, canary=self._canary.counters())
        return _whole(200, document.to_json())

    def _metrics(self) -> Reply:
        from edgepod import metrics  # the Prometheus client costs 3 MiB, which a pod nobody scrapes keeps

        text, content_type = metrics.render(self._plane, self._canary)
        return _whole(200, text, ((b"content-type", content_type.encode()),))

    # -- inference ------------------------------------------------------------------------------------

    async def _infer(self, path: Sequence[str], scope: Scope, receive: Receive, send: Send) -> None:
        share = splitter.NOTHING
        started = time.perf_counter()
        try:
            name, version = _model_of(path)
            with self._gate.enter() as place:
                headers = body.Headers(scope["headers"])
                self._named(name, version)
                data = await body.read(receive, headers, place)
                started = time.perf_counter()
                if self._canary is not None and version is None and not headers.forwarded:
                    share = self._canary.choose()
                reply = await self._answer(share, headers, data, receive)
                self._count(started, reply, len(data))
                await self._send(send, reply)
        except body.ClientGone:
            return
        except _REFUSALS as error:
            reply = refusal(error)
            self._count(started, reply, 0)
            await self._send(send, reply, close=isinstance(error, _CLOSING))
            return
        if share.shadow and reply.arrays is not None and self._canary is not None:
            self._canary.shadow(share, splitter.Copy(data, headers), reply.arrays)

    async def _answer(
        self, share: splitter.Share, headers: body.Headers, data: bytes, receive: Receive
    ) -> Reply:
        if not share.forward or self._canary is None:
            return await self._own_or_gone(headers, data, receive)
        given = await self._canary.forward(share, splitter.Copy(data, headers))
        if given.good:
            return Reply(given.status, (given.body,), len(given.body), given.headers, given.raw_size)
        try:
            reply = await self._own(headers, data)
        except _REFUSALS as error:
            reply = refusal(error)
        self._canary.judge(share, given, own_status=reply.status)
        return reply

    async def _own_or_gone(self, headers: body.Headers, data: bytes, receive: Receive) -> Reply:
        """The own answer; a slow run is stopped when the caller hangs up."""
        request = requests.decode(data, headers.header_length, headers.accept_codec)
        result = self._plane.at_once(request)
        if result is None:
            result = await self._later_or_gone(request, receive)
        return self._reply(result)

    async def _later_or_gone(self, request: Request, receive: Receive) -> Result:
        own = asyncio.ensure_future(self._plane.later(request))
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((own, gone), return_when=asyncio.FIRST_COMPLETED)
            if own.done():
                return own.result()
            own.cancel()
            raise body.ClientGone
        finally:
            gone.cancel()

    async def _own(self, headers: body.Headers, data: bytes) -> Reply:
        request = requests.decode(data, headers.header_length, headers.accept_codec)
        return self._reply(await self._plane.infer(request))

    def _reply(self, result: Result) -> Reply:
        assert self._plane.identity is not None
        encoded, arrays = result.encoded, result.arrays
        headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)
        if encoded.header_length is not None:
            headers = (
                (b"content-type", b"application/octet-stream"),
                (b"inference-header-content-length", str(encoded.header_length).encode()),
            )
        if self._plane.identity.revision:
            headers += ((b"edgefleet-revision", self._plane.identity.revision.encode()),)
        return Reply(200, encoded.parts, encoded.size, headers, encoded.raw_size, arrays)

    def _count(self, started: float, reply: Reply, received: int) -> None:
        plane = self._plane
        plane.served.add((time.perf_counter() - started) * 1000, error=reply.status >= 500)
        plane.bytes_in += received
        plane.bytes_out += reply.size
        plane.bytes_out_raw += reply.size if reply.raw_size is None else reply.raw_size

    async def _send(self, send: Send, reply: Reply, *, head_only: bool = False, close: bool = False) -> None:
        headers = [*reply.headers, (b"content-length", b"%d" % reply.size)]
        if self._plane.draining or close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        data = b"" if head_only else b"".join(reply.parts)
        if len(data) <= _SENT_AT_ONCE:
            await send({"type": "http.response.body", "body": data})
            return
        # An answer the caller has not read yet is memory: the request keeps its place until it has left. uvicorn
        # waits for the transport before it sends, so the end is sent apart.
        await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _model_of(path: Sequence[str]) -> tuple[str, str | None]:
    match path:
        case ["", "v2", "models", name, "infer"]:
            return name, None
        case ["", "v2", "models", name, "versions", version, "infer"]:
            return name, version
        case _:
            raise dataplane.UnknownModel("no such path; inference is at /v2/models/NAME/infer")


def refusal(error: Exception) -> Reply:
    """The answer to a request that gets no inference."""
    status = _STATUSES[type(error)]
    reply = error_reply(status, str(error))
    if status == 503:
        reply = msgspec.structs.replace(
            reply, headers=(*reply.headers, (b"retry-after", str(admission.RETRY_AFTER_SECONDS).encode()))
        )
    return reply


def error_reply(status: int, message: str) -> Reply:
    """An answer that says what is wrong."""
    return json_reply({"error": message}, status)


def json_reply(document: object, status: int = 200) -> Reply:
    """A JSON answer."""
    return _whole(status, msgspec.json.encode(document))


def _whole(status: int, data: bytes, headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)) -> Reply:
    return Reply(status, (data,), len(data), headers)


def _not_allowed(method: str) -> Reply:
    reply = error_reply(405, f"only {method} is allowed here")
    return msgspec.structs.replace(reply, headers=(*reply.headers, (b"allow", method.encode())))


def _live() -> Reply:
    return json_reply({"live": True})


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
