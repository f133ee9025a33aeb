"""One Kubernetes cluster as the demo sees it: kubectl for what a user would type, plain GETs for looking."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import kubernetes.client
import kubernetes.config
import urllib3

ROOT: Final = Path(__file__).parents[1]
GROUP_PATH: Final = "/apis/edgefleet.dev/v1alpha1"
PATIENCE: Final = 5.0
"""Seconds one look may take."""


class CommandError(Exception):
    """A program ended with an error; the message has the command and what it said."""


class UnseenError(Exception):
    """A look at a cluster failed; `status` is the HTTP status, 0 when nothing answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    timeout: float = 600,
    env: dict[str, str] | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    Raises CommandError with what it wrote when it ends with another code than 0 or takes longer than
    `timeout` seconds.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            cwd=ROOT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(words)}: not done after {timeout:.0f} s") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise CommandError(f"{' '.join(words)} ended with {done.returncode}: {said}")
    return done.stdout


@functools.cache
def tool(name: str) -> tuple[str, ...]:
    """How to start kubectl or helm: the one on PATH, else the one localkube has."""
    if found := shutil.which(name):
        return (found,)
    if name == "helm":
        return (run([sys.executable, "localkube", "helm"]).strip().splitlines()[-1],)
    return (run([sys.executable, "localkube", "binary"]).strip().splitlines()[-1], name)


@dataclass(frozen=True)
class Cluster:
    """A hub or a site."""

    name: str
    kubeconfig: Path
    context: str = ""
    """Empty: the kubeconfig's current one."""

    def environment(self) -> dict[str, str]:
        """Variables under which `kubectl`, `helm` and `edgefleet` mean this cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl against this cluster. Raises CommandError."""
        context = ("--context", self.context) if self.context else ()
        return run(
            [*tool("kubectl"), *context, *arguments], stdin=stdin, timeout=timeout, env=self.environment()
        )

    def helm(self, *arguments: str, stdin: str | None = None) -> str:
        """Run helm against this cluster. Raises CommandError."""
        context = ("--kube-context", self.context) if self.context else ()
        return run([*tool("helm"), *context, *arguments], stdin=stdin, env=self.environment())

    def edgefleet(self, *arguments: str) -> str:
        """Run the edgefleet command line against this cluster. Raises CommandError."""
        context = ("--context", self.context) if self.context else ()
        return run([program("edgefleet"), *arguments, *context], env=self.environment())

    def apply(self, *objects: dict[str, Any]) -> None:
        """`kubectl apply` the objects. Raises CommandError with the API server's words."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listed))

    @functools.cached_property
    def _api(self) -> Any:
        # `retries`: a cluster that is just starting should be asked again by the caller, who knows for how long
        api = kubernetes.config.new_client_from_config(str(self.kubeconfig), context=self.context or None)  # type: ignore[no-untyped-call]
        api.configuration.retries = urllib3.Retry(0)
        return kubernetes.client.ApiClient(api.configuration)

    def text(self, path: str, **query: object) -> str:
        """GET a path of the API server. Raises UnseenError."""
        pairs = [(key, str(value)) for key, value in query.items()]
        request = self._api.param_serialize(
            "GET", path, query_params=pairs, header_params={"Accept": "*/*"}, auth_settings=["BearerToken"]
        )
        try:
            response = self._api.call_api(*request, _request_timeout=PATIENCE)
            body = response.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnseenError(0, f"{self.name}: {path}: {error}") from error
        if response.status >= 400:
            raise UnseenError(response.status, f"{self.name}: {path}: {response.status} {body[:300]!r}")
        return str(body.decode(errors="replace"))

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """GET an object or list. Raises UnseenError."""
        found: dict[str, Any] = json.loads(self.text(path, **query))
        return found

    def items(self, plural: str, namespace: str = "", **query: object) -> list[dict[str, Any]]:
        """List objects of ours. Nothing when the kind is not installed yet. Raises UnseenError."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        try:
            found: list[dict[str, Any]] = self.get(f"{GROUP_PATH}{scope}/{plural}", **query)["items"]
        except UnseenError as unseen:
            if unseen.status == 404:
                return []
            raise
        return found

    def metric(self, namespace: str, labels: str, port: int, name: str) -> float | None:
        """Sum of a Prometheus metric over the ready pods with these labels; None when nobody shows it."""
        values = [
            float(line.rsplit(" ", 1)[1])
            for pod in self.pods(namespace, labels)
            for line in self._metrics(namespace, pod["metadata"]["name"], port)
            if line.startswith(name) and line[len(name)] in " {"
        ]
        return sum(values) if values else None

    def _metrics(self, namespace: str, pod: str, port: int) -> list[str]:
        try:
            return self.text(f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics").splitlines()
        except UnseenError:
            return []

    def pods(self, namespace: str, labels: str) -> list[dict[str, Any]]:
        """Pods with these labels. Raises UnseenError."""
        found: list[dict[str, Any]] = self.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=labels)[
            "items"
        ]
        return found

    def resident_mib(self, namespace: str, pod: str, container: str = "") -> float | None:
        """Resident memory of a container's first process, MiB; None when it cannot be asked."""
        chosen = ("-c", container) if container else ()
        try:
            status = self.kubectl(
                "exec", "-n", namespace, pod, *chosen, "--", "cat", "/proc/1/status", timeout=20
            )
        except CommandError:
            return None
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) / 1024, 1)
        return None


def program(name: str) -> Path:
    """A command of the virtual environment we run in."""
    return Path(sys.executable).parent / name


def condition(thing: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an object, or an empty dictionary."""
    found: list[dict[str, Any]] = thing.get("status", {}).get("conditions", [])
    return next((each for each in found if each["type"] == kind), {})
