"""How registries are reached: which may be spoken to without TLS, whose certificates count, who we are there."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Settings for all registries. Times in seconds."""

    plain_http: frozenset[str] = frozenset()
    """`host:port` of registries spoken to without TLS; every other gets TLS, always."""
    ca_file: Path | None = None
    """PEM file of certificate authorities to believe besides the system's."""
    credentials: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    """`host[:port]` → (user, password)."""
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    """Longest silence in the middle of an answer."""
    document_timeout: float = 60.0
    """Longest time for a manifest or another document, whole."""
    attempts: int = 5
    """Connections made for one file that keeps breaking off without a byte of progress."""

    @classmethod
    def create(
        cls, *, plain_http: str = "", ca_file: Path | str | None = None, docker_config: str | bytes = ""
    ) -> Self:
        """Make options from settings: a comma list of hosts, a PEM file, the text of a docker config.json.

        Raises ValueError when the docker config cannot be read.
        """
        hosts = frozenset(host for host in (part.strip() for part in plain_http.split(",")) if host)
        return cls(
            plain_http=hosts,
            ca_file=Path(ca_file) if ca_file else None,
            credentials=docker_credentials(docker_config) if docker_config else {},
        )


def docker_credentials(text: str | bytes) -> dict[str, tuple[str, str]]:
    """Read the `auths` of a docker config.json (also the content of a kubernetes.io/dockerconfigjson Secret).

    Credential helpers are not started. Raises ValueError naming the host whose entry is broken.
    """
    document = json.loads(text)
    auths = document.get("auths", {}) if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        raise ValueError("docker config: `auths` must be an object")  # noqa: TRY004 - the file's fault, not the caller's
    return {_host(host): found for host, entry in auths.items() if (found := _login(host, entry)) is not None}


def _host(text: str) -> str:
    """Return the host of an entry; docker itself writes some as addresses."""
    return text.removeprefix("https://").removeprefix("http://").split("/", 1)[0]


def _login(host: str, entry: object) -> tuple[str, str] | None:
    if not isinstance(entry, dict):
        raise ValueError(f"docker config: the entry of {host!r} must be an object")  # noqa: TRY004
    if entry.get("username"):
        return str(entry["username"]), str(entry.get("password", ""))
    if not entry.get("auth"):
        return None
    try:
        user, _, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"docker config: the auth of {host!r} is not base64 of user:password") from error
    return user, password
