"""`edgefleet-operator`: start the hub, open the doors, run until told to stop."""

import asyncio
import itertools
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import kopf

from edgefleet.core import names
from edgefleet.handlers import doors, logs, metrics
from edgefleet.handlers import settings as options
from edgefleet.handlers.hub import Hub
from edgefleet.handlers.settings import Settings, SettingsError
from edgefleet.kube.client import Api

log = logging.getLogger(__name__)

_STEADY: Final = 60.0
"""Seconds after which doors that stood open so long are opened again as if for the first time."""
_TRIES: Final = 5
"""How often in a row doors are opened again that were shut before."""


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
    """Keep kopf's doors open until `stop`; then let the hub's passes end before kopf ends all tasks it finds.

    What kopf does not expect of an API server ends it, such as a watch that is refused as 410 instead of by an event. Its
    doors are opened again, and bring everything anew. Raises RuntimeError when they do not stay open.
    """
    asked = asyncio.create_task(stop.wait(), name="stop")
    again = _Again()
    while True:
        trouble = await _while_open(api, hub, stop, asked, again)
        if trouble is None:
            return
        if again.pause is None:
            raise RuntimeError("kopf has ended") from trouble
        log.warning("kopf has ended; its doors are opened again", extra={"error": repr(trouble)})
        await asyncio.wait((asked,), timeout=again.pause)


class _Again:
    """When doors that were shut are opened again."""

    def __init__(self) -> None:
        self.pause: float | None = None
        """Seconds until then; None: they are not."""
        self._opened = 0.0
        self._pauses = self._patience()

    def opened(self) -> None:
        """Note that they are open."""
        self._opened = asyncio.get_running_loop().time()

    def shut(self) -> None:
        """Note that they are not."""
        if asyncio.get_running_loop().time() - self._opened > _STEADY:
            self._pauses = self._patience()
        self.pause = next(self._pauses, None)

    def _patience(self) -> Iterator[float]:
        return itertools.islice(doors.Patience(), _TRIES)


async def _while_open(
    api: Api, hub: Hub, stop: asyncio.Event, asked: asyncio.Task[Any], again: _Again
) -> BaseException | None:
    """Open kopf's doors until `asked` is done. Returns what they were shut by if kopf ended before."""
    over = asyncio.Event()
    tasks = await kopf.spawn_tasks(
        registry=doors.registry(api, hub.models_queue),
        settings=doors.settings(),
        clusterwide=True,
        standalone=True,
        # kopf would ask who we are, and uid 65532 has no name
        identity=cast(Any, "edgefleet-operator"),
        stop_flag=over,
    )
    _on_signals(stop)  # kopf has put its own handlers in place of ours
    again.opened()
    await asyncio.wait((*tasks, asked), return_when=asyncio.FIRST_COMPLETED)
    broken = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    trouble = None if asked.done() else next((error for error in broken if error is not None), None)
    if trouble is None:
        await hub.stop()
    else:
        again.shut()
        if again.pause is not None:
            over.set()  # or kopf would kill this process after a while, in which it has to end
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return trouble


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
