"""An order given to one site by hand, as to a box without a hub: for what only the site itself is asked about."""

from dataclasses import dataclass
from typing import Any

from demo.cluster import GROUP_PATH, Cluster
from demo.fleet import MODELS


@dataclass(frozen=True)
class Order:
    """An EdgeDeployment of one site, and what the site says of it."""

    site: Cluster
    namespace: str
    """Of the EdgeModel it pretends to come from."""
    model: str
    origin: str
    """What it names as its rollout and wave."""

    @property
    def name(self) -> str:
        """Of the EdgeDeployment."""
        return f"{self.namespace}.{self.model}"

    @property
    def _path(self) -> str:
        return f"{GROUP_PATH}/namespaces/{MODELS}/edgedeployments/{self.name}"

    def give(self, **spec: Any) -> None:
        """Order int8 of a bundle; `spec` is the rest of the order. Raises CommandError."""
        self._apply(
            {
                "orderVersion": 1,
                "state": "Run",
                "mode": "Canary",
                "model": {"namespace": self.namespace, "name": self.model},
                "attempt": 1,
                "variants": ["int8"],
                "rollout": self.origin,
                "wave": self.origin,
                "offeredAt": "2026-01-01T00:00:00Z",
                **spec,
            }
        )

    def remove(self) -> None:
        """Order the model away. Raises CommandError, UnseenError."""
        self._apply({**self.site.get(self._path)["spec"], "state": "Remove"})

    def forget(self) -> None:
        """Delete the order once it is carried out. Raises CommandError."""
        self.site.kubectl("delete", "edgedeployment", self.name, "-n", MODELS)

    def report(self) -> dict[str, Any]:
        """What the site says of the order as it is now; nothing while it speaks of an earlier one. Raises UnseenError."""
        found = self.site.get(self._path)
        status: dict[str, Any] = found.get("status") or {}
        return status if status.get("observedGeneration") == found["metadata"]["generation"] else {}

    def pods(self, revision: str) -> list[dict[str, Any]]:
        """Pods of a revision. Raises UnseenError."""
        chosen = f"edgefleet.dev/model={self.name},edgefleet.dev/revision={revision}"
        return self.site.pods(MODELS, chosen)

    def _apply(self, spec: dict[str, Any]) -> None:
        self.site.apply(
            {
                "apiVersion": "edgefleet.dev/v1alpha1",
                "kind": "EdgeDeployment",
                "metadata": {"name": self.name, "namespace": MODELS},
                "spec": spec,
            }
        )
