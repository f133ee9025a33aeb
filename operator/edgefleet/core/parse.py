"""Raw Kubernetes objects (dicts) to the core's structs. Nobody behind this door touches a raw dict.

A spec that cannot be read becomes a SpecError inside the object, so that it can be shown in its status.
"""

from collections.abc import Mapping
from typing import Any

from edgefleet.core.types import (
    AgentObject,
    LeaseSeen,
    ModelObject,
    NamespaceSeen,
    OrderObject,
    RolloutObject,
    SiteObject,
)

Raw = Mapping[str, Any]


def model(raw: Raw) -> ModelObject:
    """An EdgeModel."""
    raise NotImplementedError


def rollout(raw: Raw) -> RolloutObject | None:
    """An EdgeRollout; None when its spec cannot be read."""
    raise NotImplementedError


def deployment(raw: Raw) -> OrderObject:
    """An EdgeDeployment on the hub. The site is taken from its namespace."""
    raise NotImplementedError


def site(raw: Raw, lease: Raw | None = None, agent: Raw | None = None) -> SiteObject:
    """An EdgeSite with the heartbeat Lease and the EdgeAgent of its namespace."""
    raise NotImplementedError


def heartbeat(raw: Raw) -> LeaseSeen:
    """A site's Lease."""
    raise NotImplementedError


def agent(raw: Raw) -> AgentObject:
    """A site's EdgeAgent on the hub."""
    raise NotImplementedError


def namespace(raw: Raw, site_name: str) -> NamespaceSeen:
    """The namespace `site-<name>`."""
    raise NotImplementedError
