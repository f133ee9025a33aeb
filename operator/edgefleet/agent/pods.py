"""What the pods say of themselves, asked at their own addresses."""

import asyncio
import ipaddress
import logging
from collections.abc import Iterable
from typing import Final

import aiohttp
from edgepod.contract import HEALTH_PATH, ContractError, HealthDocument

from edgefleet.core.local import PodSeen

log = logging.getLogger(__name__)

_LARGEST: Final = 256 * 1024
_PATIENCE: Final = aiohttp.ClientTimeout(total=2.0)


class Pods:
    """Reads health documents. A pod that does not answer in two seconds has none."""

    def __init__(self, port: int) -> None:
        """`port` is the pods' own."""
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def read(self, pods: Iterable[PodSeen]) -> dict[str, HealthDocument]:
        """Ask all these pods at once; return documents by pod uid."""
        asked = [pod for pod in pods if pod.ip]
        answers = await asyncio.gather(*(self._ask(pod) for pod in asked))
        return {pod.uid: found for pod, found in zip(asked, answers, strict=True) if found is not None}

    async def _ask(self, pod: PodSeen) -> HealthDocument | None:
        if self._session is None:
            # no pool: a pod that is drained must not be kept waiting by us
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        try:
            url = address(pod.ip, self._port) + HEALTH_PATH
            async with self._session.get(url, timeout=_PATIENCE, allow_redirects=False) as answer:
                if answer.status != 200:
                    return None
                return HealthDocument.from_json(await _whole(answer))
        except (aiohttp.ClientError, TimeoutError, OSError, ContractError, ValueError) as error:
            log.debug("No health document", extra={"pod": pod.name, "error": str(error)})
            return None


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """Read to the end. Raises ValueError for more than a document can have."""
    found = bytearray()
    async for piece in answer.content.iter_any():
        found += piece
        if len(found) > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
    return bytes(found)


def address(ip: str, port: int) -> str:
    """Return the base URL of a pod. Raises ValueError for what is no IP address."""
    found = ipaddress.ip_address(ip)
    host = f"[{found}]" if found.version == 6 else str(found)
    return f"http://{host}:{port}"
