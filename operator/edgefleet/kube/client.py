"""The verbs of one API server: asynchronous, plain dictionaries in and out.

Every write asks for `fieldValidation=Strict`, so a field the server's CRD does not know is an error instead
of being dropped in silence, and names its field manager. Reads are tried again a few times; a write is not,
because only its caller knows what a second one would do.
"""

import asyncio
import builtins
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from kubernetes.aio.client import Configuration

from edgefleet.kube import credentials, errors
from edgefleet.kube.credentials import Explicit
from edgefleet.kube.kinds import Kind
from edgefleet.kube.transport import Object, Transport

__all__ = ["Api", "Explicit", "Object"]

PAGE: Final = 500
MERGE: Final = "application/merge-patch+json"
_READ_TRIES: Final = 3


class Api:
    """Client of one API server. Use as an asynchronous context manager, or call `close`."""

    def __init__(
        self,
        settings: Configuration,
        context: ssl.SSLContext | None = None,
        *,
        manager: str,
        timeout: float = 30.0,
        in_flight: int = 16,
        keepalive: int | None = 30,
    ) -> None:
        """Speak to the server of `settings` as field manager `manager`.

        `timeout` is seconds per request, `in_flight` how many are sent at a time, `keepalive` seconds of
        silence before TCP probes a connection (None: never, which saves bytes on a slow link).
        """
        self.manager = manager
        self._transport = Transport(
            settings, context, agent=manager, timeout=timeout, in_flight=in_flight, keepalive=keepalive
        )

    @classmethod
    async def from_kubeconfig(
        cls, path: Path | None, *, context: str | None = None, manager: str, **options: Any
    ) -> Self:
        """Read a kubeconfig; None: the default places. Raises ValueError."""
        return cls(await credentials.from_kubeconfig(path, context), manager=manager, **options)

    @classmethod
    def in_cluster(cls, *, manager: str, **options: Any) -> Self:
        """Use the pod's ServiceAccount. Raises ValueError outside a pod."""
        return cls(credentials.in_cluster(), manager=manager, **options)

    @classmethod
    def explicit(cls, where: Explicit, *, manager: str, **options: Any) -> Self:
        """Use server, CA and credential as given. Raises ValueError when they do not parse."""
        settings, tls = credentials.from_explicit(where)
        return cls(settings, tls, manager=manager, **options)

    @property
    def server(self) -> str:
        """URL of the server."""
        return self._transport.server

    @property
    def server_date(self) -> str:
        """`Date` header of the latest answer, the server's clock (RFC 9110 format); empty before the first."""
        return self._transport.server_date

    @property
    def quiet(self) -> float:
        """Seconds since the server last answered a request, watches aside; since the start before the first."""
        return self._transport.quiet

    async def touch(self) -> None:
        """Ask for as little as there is, so that a connection is not closed for silence. Raises ApiError."""
        await self._transport.touch("/livez")

    async def connection(self) -> credentials.Connection:
        """Say where and as whom we speak, for kopf, which makes its own connections."""
        return await self._transport.connection()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        await self._transport.close()

    # -- reads ----------------------------------------------------------------------------------------
    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object. Raises NotFound and the other ApiErrors."""
        return await self.request("GET", kind.path(namespace, name))

    async def pages(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
    ) -> AsyncIterator[tuple[builtins.list[Object], str]]:
        """Read a collection page by page: (items, resource version of the list)."""
        query = {"limit": str(limit), "labelSelector": labels, "fieldSelector": fields}
        while True:
            page = await self.request("GET", kind.path(namespace), query)
            meta = page.get("metadata") or {}
            items = page.get("items") or []
            for item in items:  # list items come without
                item["kind"], item["apiVersion"] = kind.name, kind.api_version
            yield items, str(meta.get("resourceVersion") or "")
            query["continue"] = str(meta.get("continue") or "")
            if not query["continue"]:
                return

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """Read a whole collection, page by page."""
        found: list[Object] = []
        async for items, _version in self.pages(kind, namespace, labels=labels, fields=fields):
            found += items
        return found

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        version: str,
        seconds: float,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[tuple[str, Object]]:
        """Follow changes after `version` for at most `seconds`: one request, no second try.

        Yields (OPENED, {}) once accepted, then (ADDED | MODIFIED | DELETED, object); ends when the server does. Raises Gone when
        `version` is too old, and the other ApiErrors. `edgefleet.kube.watching` makes an endless one of it.
        """
        query = {
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(seconds))),
            "labelSelector": labels,
            "fieldSelector": fields,
        }
        async for event in self._transport.lines(kind.path(namespace), query, seconds):
            if event["type"] == "ERROR":
                status = event["object"]
                raise errors.from_status(f"watch {kind.plural}", int(status.get("code") or 500), status)
            yield event["type"], event["object"]

    # -- writes ---------------------------------------------------------------------------------------
    async def create(
        self,
        kind: Kind,
        namespace: str | None,
        body: Mapping[str, Any],
        *,
        name: str | None = None,
        sub: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Create an object, or post to the subresource `sub` of the object `name`.

        With `dry_run` everything is checked and defaulted, and nothing is written.
        Raises AlreadyExists, Invalid (also for a field the server does not know) and the other ApiErrors.
        """
        whole = body if sub else {"apiVersion": kind.api_version, "kind": kind.name, **body}
        return await self._write("POST", kind.path(namespace, name, sub), whole, dry_run=dry_run)

    async def merge_patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        status: bool = False,
        manager: str | None = None,
    ) -> Object:
        """Merge `body` into an object (RFC 7396): null removes a field, a list replaces a list.

        With `metadata.uid` or `metadata.resourceVersion` in `body` it is refused as Conflict when they differ.
        """
        path = kind.path(namespace, name, "status" if status else None)
        return await self._write("PATCH", path, body, content_type=MERGE, manager=manager)

    async def replace(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        sub: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Replace an object or its subresource `sub`. Raises Conflict when its resourceVersion is not the latest.

        With `dry_run` everything is checked and defaulted, and nothing is written.
        """
        whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        return await self._write("PUT", kind.path(namespace, name, sub), whole, dry_run=dry_run)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None,
        propagation: str = "Background",
    ) -> None:
        """Delete one object, and only the one with `uid` (None: whatever bears the name).

        Raises NotFound, and Conflict when the name now belongs to another object.
        """
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        await self.request("DELETE", kind.path(namespace, name), None, body)

    async def _write(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        *,
        content_type: str = "application/json",
        manager: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        query = {"fieldValidation": "Strict", "fieldManager": manager or self.manager}
        if dry_run:
            query["dryRun"] = "All"
        return await self.request(method, path, query, body, content_type=content_type)

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        seconds: float | None = None,
    ) -> Object:
        """Send one request and read its JSON answer. Raises ApiError. A GET is tried up to three times."""
        for attempt in range(1, _READ_TRIES + 1):
            try:
                return await self._transport.call(method, path, query or {}, body, content_type, seconds)
            except (errors.Unreachable, errors.TooMany, errors.ServerError) as error:
                if method != "GET" or attempt == _READ_TRIES:
                    raise
                pause = error.retry_after or 0.2 * 4 ** (attempt - 1)
                await asyncio.sleep(pause * random.uniform(0.8, 1.3))  # noqa: S311  jitter is no secret
        raise AssertionError("the last try returns or raises")
