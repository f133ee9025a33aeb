"""Hundreds of sites' links in one process, and the hub they lose and find again: in memory, by a clock that jumps.

The links are the agent's own with everything below them but the sockets: journal, identity, beats, the watch, reports,
the agent's status, retries. A pass is left out: an order that came is a pull and a report. What the hub answers is
written down with the time, so that it can be told how many requests it met in its busiest second.
"""

import asyncio
import base64
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from edgefleet.agent.clock import Clock
from edgefleet.agent.identity import SECRET, Identity
from edgefleet.agent.journal import Journal
from edgefleet.agent.link import Link
from edgefleet.agent.policy import SitePolicy
from edgefleet.agent.renewal import Renewals
from edgefleet.agent.silence import Silence
from edgefleet.core import fingerprint, names, parse
from edgefleet.core.order import OrderIdentity, Report, Stage
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Explicit, Object
from edgefleet.kube.transport import OPENED, Transport
from kubernetes.aio.client import Configuration
from support.fake_agent import Key

HUB: Final = "https://hub.test"
SITE: Final = "https://site.test"
ORDER: Final = "team.digits"
_ROUND_TRIP: Final = 0.05


class Hub:
    """What stands in for `Transport`: the hub's API server, and each site's own, which knows its certificate."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[tuple[float, str]] = []
        """When, and for what: lists, reports, agents, beats, pulls, others."""
        self.generation = 1
        """Of every site's order."""
        self._broken = asyncio.Event()
        self._compacted = 0
        self._versions = itertools.count(1)
        self._now = 0
        self.secrets: dict[str, Object] = {}

    def cut(self) -> None:
        """Nobody is answered, and open watches break."""
        self.away = True
        self._broken.set()

    def heal(self) -> None:
        """Everybody is answered; the hub has forgotten what happened before it went, and has a new order for each."""
        self.away, self.generation = False, self.generation + 1
        self._compacted = self._now = next(self._versions)
        self._broken = asyncio.Event()
        self.asked.clear()

    def met(self, what: str) -> None:
        self.asked.append((asyncio.get_running_loop().time(), what))

    async def call(
        self, transport: Transport, method: str, path: str, _query: Any, body: Any, *_rest: Any
    ) -> Object:
        """`Transport.call`."""
        if transport.server == SITE:
            return self.secrets[path]
        await asyncio.sleep(_ROUND_TRIP)
        if self.away:
            raise errors.Unreachable("refused")
        transport.server_date = format_datetime(datetime.now(UTC), usegmt=True)
        self.met(what := _what(method, path))
        return {} if what == "words" else self._answer(method, path, body)

    async def lines(
        self, transport: Transport, _path: str, query: Any, seconds: float
    ) -> AsyncIterator[Object]:
        """`Transport.lines`: a watch on which nothing happens but its end."""
        await asyncio.sleep(_ROUND_TRIP)
        if self.away:
            raise errors.Unreachable("refused")
        self.met("watches")
        yield {"type": OPENED, "object": {}}
        if int(query["resourceVersion"]) < self._compacted:
            yield {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
            return
        try:
            async with asyncio.timeout(seconds):
                await self._broken.wait()
        except TimeoutError:
            return
        raise errors.Unreachable("reset")

    def _answer(self, method: str, path: str, body: Any) -> Object:
        site = path.partition("/namespaces/")[2].partition("/")[0]
        meta = {"namespace": site, "uid": site, "resourceVersion": str(self._now)}
        order = {"metadata": {**meta, "name": ORDER, "generation": self.generation}, "spec": {}}
        match kind := path.removesuffix("/status").partition(f"/{site}/")[2].partition("/")[0]:
            case "edgedeployments" if method == "GET":
                return {"metadata": {"resourceVersion": str(self._now)}, "items": [order]}
            case "edgedeployments":
                return {**order, "status": body["status"]}
            case "leases":
                mark = fingerprint.fingerprint((parse.meta(order),), 1)
                return {"metadata": {**meta, "name": names.LEASE, "annotations": {names.FINGERPRINT: mark}}}
            case "edgeagents":
                return {"metadata": {**meta, "name": names.AGENT, "generation": 1}, "spec": {}}
            case _:
                raise errors.NotFound(f"no {kind}")


def _what(method: str, path: str) -> str:
    if path == "/livez":
        return "words"
    kind = path.removesuffix("/status").partition("/namespaces/")[2].split("/")[1]
    if kind == "edgedeployments":
        return "lists" if method == "GET" else "reports"
    return {"leases": "beats", "edgeagents": "agents"}.get(kind, kind)


def stand_in(patch: pytest.MonkeyPatch, hub: Hub) -> None:
    """Put the hub in the place of all connections, and the loop's time in the place of the machine's."""
    clock = asyncio.get_running_loop().time
    patch.setattr(time, "monotonic", clock)
    for each in (Silence, Renewals):
        patch.setattr(each.__init__, "__defaults__", (clock,))

    async def call(self: Transport, *arguments: Any) -> Object:
        return await hub.call(self, *arguments)

    def lines(self: Transport, *arguments: Any) -> AsyncIterator[Object]:
        return hub.lines(self, *arguments)

    async def touch(self: Transport, _path: str) -> None:
        await hub.call(self, "GET", "/livez", {}, None)

    async def in_no_time(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    patch.setattr(Transport, "call", call)
    patch.setattr(Transport, "lines", lines)
    patch.setattr(Transport, "touch", touch)
    patch.setattr(asyncio, "to_thread", in_no_time)
    patch.setattr(os, "fsync", lambda _: None)


def credential(key: Key, site: str) -> Object:
    """A site's Secret with its key and a certificate."""
    common = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names.site_user(site, key.sha256))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(common)
        .issuer_name(common)
        .public_key(key.private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=300))
        .sign(key.private, hashes.SHA256())
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    data = {"tls.key": base64.b64encode(key.pem), "tls.crt": base64.b64encode(certificate)}
    return {"data": {name: value.decode() for name, value in data.items()}}


def link(hub: Hub, site: str, key: Key, folder: Path) -> Link:
    """The link of one site, which has joined long ago."""
    hub.secrets[kinds.SECRET.path(site, SECRET)] = secret = credential(key, site)
    settings = Configuration()
    settings.host = SITE
    where = Explicit(HUB, base64.b64decode(secret["data"]["tls.crt"]))
    identity = Identity(Api(settings, manager="tests"), site, site, where, None)
    (folder / site).mkdir()
    journal = Journal(folder / site)
    words = itertools.count()

    def look(name: str) -> None:
        """A pass, in short."""
        order = journal.models[name].identity
        if order is not None and order.generation != looked.get(name):
            looked[name] = order.generation
            hub.met("pulls")
        about = OrderIdentity(uid=order.uid, generation=order.generation) if order else None
        made.report(name, Report(order=about, stage=Stage.DOWNLOADING, message=str(looked.get(name))))

    def back() -> None:
        """As the agent does, whose failed downloads go on: here there is always one."""
        hub.met("pulls")
        for name in journal.models:
            look(name)

    async def describe() -> Object:
        return {"storeBytes": next(words)}

    looked: dict[str, int] = {}
    made = Link(
        identity,
        journal,
        site,
        policy=SitePolicy(journal, Clock()),
        ring=look,
        back=back,
        changed=lambda: None,
        registry=lambda _: None,
        describe=describe,
    )
    return made
