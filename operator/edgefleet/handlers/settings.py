"""How the operator was started: read once, from flags and the environment."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from edgefleet.bundle import RegistryOptions, Trust
from edgefleet.core import flapping, units
from edgefleet.core.quarantine import Policy

DEFAULT_POD_IMAGE: Final = "edgepod:0.1.0"
DEFAULT_PORT: Final = 8081
_QUARANTINE: Final = "EDGEFLEET_QUARANTINE_"


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
    quarantine: Policy = field(default_factory=Policy)
    """When a site is set aside."""


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
        quarantine=_quarantine(env),
    )


def _quarantine(env: Mapping[str, str]) -> Policy:
    default = Policy()
    return Policy(
        failures=_number(env, "FAILURES", default.failures, 1, 1000),
        within=_length(env, "WITHIN", default.within, timedelta(days=366)),
        flaps=_number(env, "FLAPS", default.flaps, 2, flapping.REMEMBERED),
        flaps_within=_length(env, "FLAPS_WITHIN", default.flaps_within, flapping.KEPT),
        release_after=_length(env, "RELEASE_AFTER", default.release_after, timedelta(days=366)),
        max_share=_share(env, "MAX_SHARE", default.max_share),
    )


def _number(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = env.get(_QUARANTINE + name) or str(default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{_QUARANTINE}{name}={text}: must be a whole number from {least} to {most}")
    return int(text)


def _length(env: Mapping[str, str], name: str, default: timedelta, most: timedelta) -> timedelta:
    text = env.get(_QUARANTINE + name)
    if not text:
        return default
    try:
        found = timedelta(seconds=units.duration(text))
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{_QUARANTINE}{name}={text}: {error}") from error
    if not timedelta(seconds=1) <= found <= most:
        hours = most.total_seconds() / 3600
        raise SettingsError(f"{_QUARANTINE}{name}={text}: must be a duration from 1s to {hours:.0f}h")
    return found


def _share(env: Mapping[str, str], name: str, default: str) -> str:
    text = env.get(_QUARANTINE + name) or default
    try:
        units.share(text)
    except ValueError as error:
        raise SettingsError(f"{_QUARANTINE}{name}={text}: {error}") from error
    return text


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
