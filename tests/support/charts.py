"""The charts as helm sees them: rendered, refused, installed."""

import functools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from support.cluster import LOCALKUBE, ROOT

Object = dict[str, Any]
CHARTS: Final = ROOT / "charts"
KEY: Final = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
TRUST: Final[Object] = {"trust": {"publicKeys": {"release.pem": KEY}}}
HUB: Final = "edgefleet"
SITE: Final = "edgefleet-site"
CRDS: Final = "edgefleet-crds"
NAMESPACES: Final = {HUB: "edgefleet-system", SITE: "edgefleet-agent", CRDS: "default"}
JOINING: Final[Object] = {
    **TRUST,
    "hub": {"server": "https://hub.example:6443", "caData": "LS0tLS1CRUdJTg=="},
    "site": {"name": "paris"},
    "join": {"token": "a-token"},
}


@functools.cache
def program() -> str:
    """A helm, built once if the machine has none."""
    done = subprocess.run(
        [*LOCALKUBE, "helm"],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=1200,
    )
    return done.stdout.strip()


def helm(
    *arguments: str | Path, values: Mapping[str, Any] | None = None, kubeconfig: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run helm with these values."""
    environment = {**os.environ, **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})}
    given = ["-f", "-"] if values is not None else []
    return subprocess.run(
        [program(), *arguments, *given],
        input=yaml.safe_dump(dict(values)) if values is not None else "",
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )


def rendered(chart: str, values: Mapping[str, Any] = TRUST) -> list[Object]:
    """All objects of a chart."""
    done = helm("template", chart, CHARTS / chart, "-n", NAMESPACES[chart], values=values)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refused(chart: str, values: Mapping[str, Any]) -> str:
    """What helm says against values; empty when it takes them."""
    done = helm("template", chart, CHARTS / chart, "-n", NAMESPACES[chart], values=values)
    return done.stderr if done.returncode else ""


def find(objects: list[Object], kind: str, name: str) -> Object:
    """One of rendered objects."""
    return next(raw for raw in objects if (raw["kind"], raw["metadata"]["name"]) == (kind, name))


@dataclass(frozen=True)
class Releases:
    """Charts on one cluster."""

    kubeconfig: Path

    def install(self, chart: str, values: Mapping[str, Any] | None = None) -> None:
        """Install or upgrade; nothing is waited for."""
        done = helm(
            *("upgrade", "--install", chart, CHARTS / chart, "-n", NAMESPACES[chart], "--create-namespace"),
            values=values,
            kubeconfig=self.kubeconfig,
        )
        assert done.returncode == 0, done.stderr

    def uninstall(self, chart: str, *options: str) -> None:
        """Uninstall."""
        done = helm("uninstall", chart, "-n", NAMESPACES[chart], *options, kubeconfig=self.kubeconfig)
        assert done.returncode == 0, done.stderr
