"""A small synchronous client: binary tensors both ways, compressed outputs, nothing believed that was not checked.

    with Client("http://localhost:8080") as pod:
        answer = pod.infer("digits", {"image": image})
        labels = answer.outputs["labels"]

Needs `edgepod[client]`, no ONNX Runtime. Not safe to share between threads.
"""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
import contextlib
import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

from edgepod.wire import answers, codec, requests
from edgepod.wire.tensors import Array, WireError

MAX_ANSWER: Final = 256 * 1024 * 1024
_STALE: Final = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class ClientError(Exception):
    """No usable answer."""


class Unreachable(ClientError):
    """No whole HTTP answer came within the time. Trying again may help."""


class Refused(ClientError):
    """The pod answered with an error. 5xx and 503 with Retry-After may pass; 4xx will not."""

    def __init__(self, status: int, message: str, retry_after: float | None) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.retry_after = status, message, retry_after


class BadAnswer(ClientError):
    """The answer is not what the protocol says, or larger than allowed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered."""

    outputs: Mapping[str, Array]
    model: str
    version: str
    revision: str
    """Which revision answered, serving or canary; empty when the pod does not say."""
    codecs: Mapping[str, str]
    """What was done to each binary output: `lz4` or `identity`."""
    wire_bytes: int
    """Size of the body as received."""
    raw_bytes: int
    """What it would have been without compression."""


class Client:
    """One connection to one pod or Service."""

    def __init__(self, base_url: str, *, timeout: float = 5.0, max_answer: int = MAX_ANSWER) -> None:
        """`timeout`: seconds for each step of a request; `max_answer`: most bytes of an answer, also unpacked.

        Raises ValueError for anything but http://host[:port][/prefix].
        """
        url = urlsplit(base_url)
        if url.scheme != "http" or not url.hostname:
            raise ValueError(f"{base_url!r} must look like http://host:port")
        self._prefix, self._max_answer = url.path.rstrip("/"), max_answer
        self._connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=timeout)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Iterable[str] = (),
        *,
        version: str | None = None,
        codec: str | None = codec.LZ4,
    ) -> Answer:
        """Run the model. `outputs`: names, none for all; `codec`: what outputs may be compressed with, None for nothing.

        Raises Unreachable, Refused, BadAnswer.
        """
        body, header_length = requests.encode(inputs, outputs, codec=codec)
        path = f"/v2/models/{quote(model, safe='')}"
        if version is not None:
            path += f"/versions/{quote(version, safe='')}"
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(header_length),
        }
        answer, data = self._request("POST", f"{path}/infer", body, headers)
        try:
            decoded = answers.decode(
                data, answer.getheader("Inference-Header-Content-Length"), self._max_answer
            )
        except WireError as error:
            raise BadAnswer(str(error)) from error
        return Answer(
            outputs=decoded.outputs,
            model=decoded.model,
            version=decoded.version,
            revision=answer.getheader("Edgefleet-Revision", ""),
            codecs=decoded.codecs,
            wire_bytes=len(data),
            raw_bytes=decoded.raw_bytes,
        )

    def metadata(self, model: str) -> dict[str, Any]:
        """The model's metadata. Raises Unreachable, Refused, BadAnswer."""
        _, data = self._request("GET", f"/v2/models/{quote(model, safe='')}", None, {})
        try:
            document: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise BadAnswer(f"metadata of {model!r}: not JSON: {error}") from error
        return document

    def ready(self) -> bool:
        """Whether the pod is there and ready."""
        try:
            self._request("GET", "/v2/health/ready", None, {})
        except (Unreachable, Refused):
            return False
        return True

    def _request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        fresh = self._connection.sock is None
        try:
            answer, data = self._once(method, path, body, headers)
        except _STALE as error:
            if fresh:
                raise Unreachable(str(error) or type(error).__name__) from error
            # The pod closed it while it was idle. Inference has no side effects: once more, on a new connection.
            answer, data = self._again(method, path, body, headers)
        if answer.status >= 400:
            raise Refused(answer.status, _message(data), _seconds(answer.getheader("Retry-After")))
        return answer, data

    def _again(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            return self._once(method, path, body, headers)
        except _STALE as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            self._connection.request(method, self._prefix + path, body, dict(headers))
            answer = self._connection.getresponse()
            data = answer.read(self._max_answer + 1)
        except _STALE:
            self.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(str(error) or type(error).__name__) from error
        if len(data) > self._max_answer:
            self.close()
            raise BadAnswer(f"the answer is larger than {self._max_answer} bytes")
        return answer, data

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace")


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None
