"""`edgefleet-agent`: start the agent, run until told to stop."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence

from edgefleet.agent import logs
from edgefleet.agent import settings as options
from edgefleet.agent.agent import Agent
from edgefleet.agent.journal import JournalError
from edgefleet.agent.settings import Settings, SettingsError
from edgefleet.bundle import BundleError
from edgefleet.core import names
from edgefleet.kube.client import Api

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the agent. Exits with a message for settings that cannot be used, with 1 when it breaks."""
    try:
        settings = options.read(sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        sys.exit(f"edgefleet-agent: {error}")
    logs.configure(verbose=settings.verbose)
    try:
        asyncio.run(run(settings))
    except (ValueError, JournalError, BundleError) as error:
        sys.exit(f"edgefleet-agent: {error}")


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    async with await _connect(settings) as api:
        agent = Agent(api, settings)
        _on_signals(stop)
        work = asyncio.create_task(agent.run(), name="agent")
        asked = asyncio.create_task(_asked(stop), name="stop")
        await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
        log.info("Agent stopping")
        asked.cancel()
        if not work.done():
            work.cancel()
        (result,) = await asyncio.gather(work, return_exceptions=True)
        if isinstance(result, Exception):
            raise result


async def _asked(stop: asyncio.Event) -> None:
    """Wait until told to stop. kopf puts its own signal handlers in place of ours whenever it starts."""
    while not stop.is_set():
        _on_signals(stop)
        try:
            await asyncio.wait_for(stop.wait(), 1.0)
        except TimeoutError:
            continue


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _connect(settings: Settings) -> Api:
    """Speak to the site's API server. Raises ValueError."""
    if settings.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Api.in_cluster(manager=names.AGENT_MANAGER)
    return await Api.from_kubeconfig(settings.kubeconfig, manager=names.AGENT_MANAGER)


if __name__ == "__main__":
    main()
