"""`edgefleet-operator`: start the hub, open the doors, run until told to stop."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, cast

import kopf

from edgefleet.core import names
from edgefleet.handlers import doors, logs, metrics
from edgefleet.handlers import settings as options
from edgefleet.handlers.hub import Hub
from edgefleet.handlers.settings import Settings, SettingsError
from edgefleet.kube.client import Api

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator. Exits with 2 for settings that cannot be used, 1 when it breaks."""
    try:
        settings = options.read(sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        sys.exit(f"edgefleet-operator: {error}")
    logs.configure(verbose=settings.verbose)
    try:
        asyncio.run(run(settings))
    except ValueError as error:  # a kubeconfig that cannot be used
        sys.exit(f"edgefleet-operator: {error}")


async def connect(settings: Settings) -> Api:
    """Speak to the API server of the settings. Raises ValueError."""
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    if settings.kubeconfig is None and in_pod:
        return Api.in_cluster(manager=names.OPERATOR_MANAGER, in_flight=32)
    return await Api.from_kubeconfig(settings.kubeconfig, manager=names.OPERATOR_MANAGER, in_flight=32)


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, or until kopf breaks (which raises)."""
    stop = asyncio.Event()
    async with await connect(settings) as api:
        hub = Hub(api, settings)
        server = None
        if settings.port:
            server = await metrics.serve(settings.port, hub.metrics, healthy=hub.unhealthy, ready=hub.unready)
        _on_signals(stop)
        starting = asyncio.create_task(hub.start(), name="start")
        asked = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await starting
                await _listen(api, hub, stop)
        finally:
            log.info("Operator stopping")
            starting.cancel()
            asked.cancel()
            await hub.stop()
            if server is not None:
                await server.cleanup()


async def _listen(api: Api, hub: Hub, stop: asyncio.Event) -> None:
    """Keep kopf's doors open until `stop`; then let the hub's passes end before kopf ends all tasks it finds."""
    tasks = await kopf.spawn_tasks(
        registry=doors.registry(api, hub.models_queue),
        settings=doors.settings(),
        clusterwide=True,
        standalone=True,
        # kopf would ask who we are, and uid 65532 has no name
        identity=cast(Any, "edgefleet-operator"),
    )
    _on_signals(stop)  # kopf has put its own handlers in place of ours
    asked = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((*tasks, asked), return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in tasks if task.done()]
    await hub.stop()
    for task in (*tasks, asked):
        task.cancel()
    await asyncio.gather(*tasks, asked, return_exceptions=True)
    for task in ended:
        if not task.cancelled() and task.exception():
            raise RuntimeError("kopf has ended") from task.exception()


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
