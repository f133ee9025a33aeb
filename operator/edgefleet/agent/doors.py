"""Where news of the site's own cluster come in. A door asks for passes and does nothing else.

kopf brings EdgeDeployments, the one kind of ours people apply here. The cluster's own objects come by lean watches:
kopf keeps 35 KiB of each and there is nothing it could add.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import kopf

from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.watching import Watcher

log = logging.getLogger(__name__)

_WATCHED: Final = (kinds.DEPLOYMENT, kinds.POD, kinds.SERVICE, kinds.JOB, kinds.ENDPOINT_SLICE)
_AGAIN: Final = 10.0

Ring = Callable[[str], None]


def watchers(api: Api, namespace: str, ring: Ring, ring_all: Callable[[], None]) -> list[Watcher]:
    """Return watches over what the passes read; they ask for passes over the model an object belongs to."""

    def sink(_: str, item: Object) -> None:
        labels = (item.get("metadata") or {}).get("labels") or {}
        if names.MODEL in labels:
            ring(labels[names.MODEL])
        elif item:  # an object without our label may be in the way, or a self-test's pod
            ring_all()

    return [Watcher(api, kind, sink, namespace=namespace) for kind in _WATCHED]


async def listen(api: Api, namespace: str, ring: Ring) -> None:
    """Let kopf bring news of EdgeDeployments, for ever; it is started again when it ends."""
    while True:
        over = asyncio.Event()
        tasks = await kopf.spawn_tasks(
            registry=_registry(api, ring),
            settings=_settings(),
            namespaces=[namespace],
            standalone=True,
            # kopf would ask who we are, and uid 65532 has no name
            identity=cast(Any, "edgefleet-agent"),
            stop_flag=over,
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.set()  # or kopf would have this process killed, ten minutes later, for not ending
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        log.warning("kopf has ended; it is started again")
        await asyncio.sleep(_AGAIN)


def _registry(api: Api, ring: Ring) -> kopf.OperatorRegistry:
    doors = kopf.OperatorRegistry()

    @kopf.on.login(registry=doors)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        us = await api.connection()
        scheme, _space, token = us.token.partition(" ")
        return kopf.ConnectionInfo(
            server=us.server,
            ca_path=us.ca_path,
            certificate_path=us.certificate_path,
            private_key_path=us.private_key_path,
            scheme=scheme or None,
            token=token or None,
            insecure=us.insecure,
            proxy_url=us.proxy,
            trust_env=True,
            # a pod's token is replaced on disk every hour or so
            expiration=datetime.now(UTC) + timedelta(minutes=10) if token else None,
        )

    said: dict[str, Object] = {}

    @kopf.on.event(names.GROUP, names.VERSION, kinds.EDGE_DEPLOYMENT.plural, registry=doors)
    async def order(type: str | None, name: str | None, body: kopf.Body, **_: Any) -> None:
        before = said.pop(name or "", None)
        if type != "DELETED":
            said[name or ""] = now = _said(body)
            if now == before:
                return  # only its status: what the last pass wrote, and another would count on and write again
        ring(name or "")

    return doors


def _said(body: kopf.Body) -> Object:
    """What an order and its mark say, without what is reported about it."""
    meta = body["metadata"]
    return {key: meta.get(key) for key in ("uid", "generation", "labels", "annotations", "deletionTimestamp")}


def _settings() -> kopf.OperatorSettings:
    """kopf as a listener only: no peers, no events, no finalizers of its own."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = 300
    chosen.watching.connect_timeout = 30
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 10
    chosen.networking.error_backoffs = 5.0
    chosen.persistence.finalizer = f"{names.GROUP}/kopf"  # never put on: event handlers need none
    return chosen
