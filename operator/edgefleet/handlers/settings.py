"""How the operator was started: read once, from flags and the environment."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgefleet.bundle import RegistryOptions, Trust

DEFAULT_POD_IMAGE: Final = "edgepod:0.1.0"
DEFAULT_PORT: Final = 8081


class SettingsError(ValueError):
    """A setting cannot be used; the message names it and says what it must be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the operator does not learn from the API server."""

    kubeconfig: Path | None
    """None: the pod's ServiceAccount, or the default kubeconfig outside a pod."""
    pod_image: str
    """Image of inference pods for revisions made from now on."""
    trust: Trust
    registry: RegistryOptions
    port: int
    """Of /healthz, /readyz and /metrics; 0: none."""
    resync: float = 300.0
    """Seconds after which every model and site is looked at again, whatever was heard."""
    verbose: bool = False


def read(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Read flags and environment. Raises SettingsError; exits for --help and unknown flags."""
    env = os.environ if environment is None else environment
    parser = argparse.ArgumentParser(prog="edgefleet-operator", description="The hub of edgefleet.")
    parser.add_argument("--kubeconfig", type=Path, help="default: the pod's ServiceAccount, else KUBECONFIG")
    parser.add_argument("--port", type=int, default=int(env.get("EDGEFLEET_PORT", DEFAULT_PORT)))
    parser.add_argument("--resync", type=float, default=300.0, help="seconds between looks at everything")
    parser.add_argument("--verbose", action="store_true")
    flags = parser.parse_args(arguments)
    return Settings(
        kubeconfig=flags.kubeconfig,
        pod_image=env.get("EDGEFLEET_POD_IMAGE") or DEFAULT_POD_IMAGE,
        trust=_trust(env.get("EDGEFLEET_TRUST", "")),
        registry=_registry(env),
        port=flags.port,
        resync=flags.resync,
        verbose=flags.verbose,
    )


def _trust(path: str) -> Trust:
    if not path:
        raise SettingsError(
            "EDGEFLEET_TRUST is not set: give a PEM file, or a folder of them, with the public keys whose "
            "bundles may run (`edgefleet keys create` makes a pair)"
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
