"""The few questions localkube itself asks an API server."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localkube.places import Cluster


class Api:
    """A cluster's API server, as its administrator."""

    def __init__(self, cluster: Cluster) -> None:
        self._base = cluster.server()
        self._token = cluster.token
        context = ssl.create_default_context(cafile=str(cluster.pki / "ca.crt"))
        # A proxy set for the shell is not for addresses of this machine.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """One request; JSON back, or the text where it is none."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", kind)
        with self._opener.open(request, timeout=10) as answer:
            text = answer.read().decode()
        try:
            return json.loads(text)
        except ValueError:
            return text

    def answers(self, path: str) -> bool:
        """Whether the server answers this with 200."""
        try:
            self.call("GET", path)
        except (OSError, urllib.error.URLError):
            return False
        return True

    def get(self, path: str) -> Any:
        """The object at path, or None while there is none or no server."""
        try:
            return self.call("GET", path)
        except (OSError, urllib.error.URLError):
            return None

    def apply(self, path: str, body: dict[str, object]) -> None:
        """Server-side apply: the same whether the object is there or not."""
        self.call("PATCH", f"{path}?fieldManager=localkube&force=true", body, "application/apply-patch+yaml")

    def node_ready(self, name: str, since: datetime | None = None) -> bool:
        """Whether the node says Ready, and has said so since then: an old word outlives its kubelet."""
        node = self.get(f"/api/v1/nodes/{name}")
        conditions = node["status"].get("conditions", []) if node else []
        ready = [each for each in conditions if each["type"] == "Ready" and each["status"] == "True"]
        return any(
            since is None or datetime.fromisoformat(each["lastHeartbeatTime"]) >= since for each in ready
        )
