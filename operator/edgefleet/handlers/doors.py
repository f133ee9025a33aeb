"""Where kopf brings news of EdgeModels and EdgeRollouts. A door asks for a pass and does nothing else."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.cache import Key
from edgefleet.kube.client import Api
from edgefleet.kube.work import Queue


def registry(api: Api, models: Queue[Key]) -> kopf.OperatorRegistry:
    """The doors of one operator, and how kopf logs in."""
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

    @kopf.on.event(names.GROUP, names.VERSION, kinds.EDGE_MODEL.plural, registry=doors)
    async def model(namespace: str | None, name: str | None, **_: Any) -> None:
        models.add(Key(namespace or "", name or ""))

    @kopf.on.event(names.GROUP, names.VERSION, kinds.EDGE_ROLLOUT.plural, registry=doors)
    async def rollout(namespace: str | None, spec: kopf.Spec, **_: Any) -> None:
        models.add(Key(namespace or "", str(spec.get("model") or "")))

    return doors


class Patience:
    """Pauses, in seconds, between tries to reach the API server: growing, jittered, and never at an end."""

    def __iter__(self) -> Iterator[float]:
        pause = 0.5
        while True:
            yield pause * random.uniform(0.7, 1.3)  # noqa: S311  jitter is no secret
            pause = min(20.0, pause * 2)


def settings() -> kopf.OperatorSettings:
    """kopf as a listener only: no peers, no events, no finalizers of its own, lists in pages."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.watching.chunk_size = 500
    chosen.watching.server_timeout = 300
    chosen.watching.connect_timeout = 30
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 10
    chosen.networking.error_backoffs = Patience()
    chosen.persistence.finalizer = f"{names.GROUP}/kopf"  # never put on: event handlers need none
    chosen.process.ultimate_exiting_timeout = 20
    return chosen
