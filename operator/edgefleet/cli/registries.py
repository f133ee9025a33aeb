"""How a command reaches registries: with the credentials of docker's own file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgefleet.bundle import RegistryOptions
from edgefleet.bundle.reference import Reference

_F = TypeVar("_F", bound=Callable[..., Any])
_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


def registry_options(command: _F) -> _F:
    """Add what every command that speaks to a registry takes."""
    command = click.option("--plain-http", is_flag=True, help="Speak to this registry without TLS.")(command)
    return click.option(
        "--ca-file", type=_EXISTING, help="PEM file of authorities to believe besides the system's."
    )(command)


def options(reference: Reference, plain_http: bool, ca_file: Path | None) -> RegistryOptions:
    """Options for the registry of a reference. Raises ClickException when docker's file is broken."""
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        return RegistryOptions.create(
            plain_http=reference.host if plain_http else "",
            ca_file=ca_file,
            docker_config=path.read_bytes() if path.is_file() else b"",
        )
    except ValueError as error:
        raise click.ClickException(f"{path}: {error}") from error
