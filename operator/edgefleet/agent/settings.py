"""How the agent was started: read once, from flags and the environment."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgefleet.bundle import RegistryOptions, Trust
from edgefleet.core.local import Place

DEFAULT_STORE: Final = "/var/lib/edgefleet"
DEFAULT_PORT: Final = 8081
_SITE: Final = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")

_JURISDICTION: Final = re.compile(r"[A-Z][A-Z0-9-]{0,15}")


class SettingsError(ValueError):
    """A setting cannot be used; the message names it and says what it must be."""


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The hub and how to join it."""

    server: str
    ca_file: Path
    site: str
    token_file: Path | None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the agent does not learn from its hub or its API server."""

    kubeconfig: Path | None
    """None: the pod's ServiceAccount, or the default kubeconfig outside a pod."""
    hub: HubSettings | None
    """None: a box without a hub, served by local `kubectl apply`."""
    namespace: str
    """Of the agent itself and its identity."""
    place: Place
    store: Path
    trust: Trust
    registry: RegistryOptions
    port: int
    """Of traffic leases, /healthz and /metrics."""
    pod_port: int
    jurisdiction: str = ""
    """Whose law the site is under, by its own word, which its hub cannot change; empty: what the hub says counts."""
    verbose: bool = False


def read(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Read flags and environment. Raises SettingsError; exits for --help and unknown flags."""
    env = os.environ if environment is None else environment
    parser = argparse.ArgumentParser(prog="edgefleet-agent", description="The agent of one edgefleet site.")
    parser.add_argument("--kubeconfig", type=Path, help="default: the pod's ServiceAccount, else KUBECONFIG")
    parser.add_argument("--port", type=int, default=int(env.get("EDGEFLEET_PORT", DEFAULT_PORT)))
    parser.add_argument("--pod-port", type=int, default=8080, help="port of the pods' health documents")
    parser.add_argument("--verbose", action="store_true")
    flags = parser.parse_args(arguments)
    return Settings(
        kubeconfig=flags.kubeconfig,
        hub=_hub(env),
        namespace=env.get("EDGEFLEET_NAMESPACE", "edgefleet-agent"),
        place=_place(env),
        store=Path(env.get("EDGEFLEET_STORE", DEFAULT_STORE)),
        trust=_trust(env.get("EDGEFLEET_TRUST", "")),
        registry=_registry(env),
        port=flags.port,
        pod_port=flags.pod_port,
        jurisdiction=_jurisdiction(env),
        verbose=flags.verbose,
    )


def _hub(env: Mapping[str, str]) -> HubSettings | None:
    server = env.get("EDGEFLEET_HUB_SERVER", "")
    if not server:
        return None
    site, ca_file = env.get("EDGEFLEET_SITE", ""), env.get("EDGEFLEET_HUB_CA", "")
    if not server.startswith("https://"):
        raise SettingsError(f"EDGEFLEET_HUB_SERVER={server}: must start with https://")
    if not _SITE.fullmatch(site):
        raise SettingsError(
            f"EDGEFLEET_SITE={site}: must be the EdgeSite's name, 1 to 50 of a-z, 0-9 and -, a letter first"
        )
    if not Path(ca_file).is_file():
        raise SettingsError(
            f"EDGEFLEET_HUB_CA={ca_file}: must be a PEM file with the hub's certificate authority"
        )
    token = env.get("EDGEFLEET_JOIN_TOKEN_FILE", "")
    return HubSettings(server, Path(ca_file), site, Path(token) if token else None)


def _jurisdiction(env: Mapping[str, str]) -> str:
    found = env.get("EDGEFLEET_JURISDICTION", "")
    if found and not _JURISDICTION.fullmatch(found):
        raise SettingsError(
            f"EDGEFLEET_JURISDICTION={found}: must be 1 to 16 of A-Z, 0-9 and -, a letter first, such as EU"
        )
    return found


def _place(env: Mapping[str, str]) -> Place:
    default = Place()
    return Place(
        namespace=env.get("EDGEFLEET_MODELS_NAMESPACE") or default.namespace,
        store_url=env.get("EDGEFLEET_STORE_URL") or default.store_url,
        agent_url=env.get("EDGEFLEET_AGENT_URL") or default.agent_url,
        serving_priority=env.get("EDGEFLEET_SERVING_PRIORITY_CLASS", ""),
        selftest_priority=env.get("EDGEFLEET_SELFTEST_PRIORITY_CLASS", ""),
    )


def _trust(path: str) -> Trust:
    if not path:
        raise SettingsError(
            "EDGEFLEET_TRUST is not set: give a PEM file, or a folder of them, with the public keys whose bundles "
            "may run here (`edgefleet keys create` makes a pair)"
        )
    try:
        return Trust.load(path)
    except (ValueError, OSError) as error:
        raise SettingsError(f"EDGEFLEET_TRUST={path}: {error}") from error


def _registry(env: Mapping[str, str]) -> RegistryOptions:
    config = env.get("EDGEFLEET_DOCKER_CONFIG", "")
    try:
        return RegistryOptions.create(
            plain_http=env.get("EDGEFLEET_PLAIN_HTTP_REGISTRIES", ""),
            ca_file=env.get("EDGEFLEET_REGISTRY_CA") or None,
            docker_config=Path(config).read_text() if config else "",
        )
    except (ValueError, OSError) as error:
        raise SettingsError(f"EDGEFLEET_DOCKER_CONFIG={config}: {error}") from error
