"""Agents of many sites in one process, each as it is but for its process: an agent costs 87 MiB, and most of it is imports.

    python -m support.many_agents PLAN

PLAN is a folder. `sites.json` in it lists the agents: name, environment, port, port of the pods and kubeconfig of each. The
first process makes lives of itself, see `support.failpoints`; killing the one in `life` is a power cut at all these sites.
An agent that ends by itself is started again, as the kubelet would, and written down in `ended`: none should.
"""

import asyncio
import contextvars
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from edgefleet.agent import logs, pods, settings
from edgefleet.agent.agent import Agent
from edgefleet.core import names
from edgefleet.kube.client import Api
from support.failpoints import lives

POD_NETWORK: Final = "10.255."
_REAL: Final = pods.address
_site: Final = contextvars.ContextVar("site", default="")


def where_pods_really_are(ip: str) -> str:
    """The loopback address that stands for a pod's: endpoints may not be on loopback, and no other network is there."""
    return ip.replace(POD_NETWORK, "127.255.")


def be(plan: Path) -> None:
    """One life of all agents."""
    logs.configure()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_named)
    pods.address = lambda ip, port: _REAL(where_pods_really_are(ip), port)
    asyncio.run(_all(plan))


def _named(record: logging.LogRecord) -> bool:
    record.of = _site.get()
    return True


async def _all(plan: Path) -> None:
    listed: list[dict[str, Any]] = json.loads(await asyncio.to_thread((plan / "sites.json").read_text))
    await asyncio.gather(*(_live(plan, each) for each in listed))


async def _live(plan: Path, site: dict[str, Any]) -> None:
    _site.set(site["name"])
    flags = ["--kubeconfig", site["kubeconfig"], "--port", str(site["port"])]
    flags += ["--pod-port", str(site["pod_port"])]
    found = settings.read(flags, site["environment"])
    while True:
        try:
            async with await Api.from_kubeconfig(found.kubeconfig, manager=names.AGENT_MANAGER) as api:
                await Agent(api, found).run()
        except Exception:  # noqa: BLE001  whatever it was, it is told
            with (plan / "ended").open("a") as ended:
                ended.write(f"{site['name']}: {traceback.format_exc()}\n")
        await asyncio.sleep(1.0)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    sys.exit(lives(where, lambda: be(where), watched=False))
