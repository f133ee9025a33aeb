"""Keeps the connection to the hub open between beats.

API servers hang up after 90 s without a request, and a beat comes every 120 s. To connect anew with both certificates
costs a link more than the beat itself; a word in between costs a tenth of it.
"""

import asyncio
import random
from typing import Final

from edgefleet.kube import errors
from edgefleet.kube.client import Api

QUIET: Final = 75.0
"""Longest silence on the connection, seconds."""


async def keep_open(api: Api) -> None:
    """Say something whenever nothing was said for a while; for ever. Failures are the beats' to notice."""
    while True:
        left = QUIET - api.quiet
        if left <= 0:
            left = QUIET
            try:
                await api.touch()
            except errors.ApiError:
                left *= random.uniform(0.5, 1.0)  # noqa: S311  a fleet that lost its hub must not speak in chorus
        await asyncio.sleep(left)
