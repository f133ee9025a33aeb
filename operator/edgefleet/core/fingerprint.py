"""A short text that changes whenever anything meant for a site changes; every beat's answer carries it."""

import hashlib
from collections.abc import Iterable

from edgefleet.core.seen import Meta


def fingerprint(orders: Iterable[Meta], agent_generation: int) -> str:
    """16 hex digits over `name:uid:generation` of a site's orders, sorted, and the generation of its EdgeAgent.

    Hub and agent compute it alike, each from what it holds; a difference means: list again.
    """
    lines = sorted(f"{order.name}:{order.uid}:{order.generation}" for order in orders)
    lines.append(str(agent_generation))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
