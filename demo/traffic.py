"""The callers inside the sites: one pod each, 20 requests a second to the model's Service, all the time.

They run on the site and not here because that is where callers of an edge model are: what the demo counts
must not depend on any link that it cuts.
"""

import base64
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from demo.cluster import Cluster, UnseenError

NAMESPACE: Final = "edgefleet-demo"
POD: Final = "caller"
RATE: Final = 20
CALLER: Final = Path(__file__).with_name("caller.py")


@dataclass(frozen=True, slots=True)
class Totals:
    """Counted by a caller since the first answer it got. Callers print exactly these fields."""

    sent: int = 0
    failed: int = 0
    before_lz4: int = 0
    after_lz4: int = 0

    def __add__(self, other: Self) -> "Totals":
        mine, yours = asdict(self), asdict(other)
        return Totals(**{name: mine[name] + yours[name] for name in mine})

    def __sub__(self, other: Self) -> "Totals":
        mine, yours = asdict(self), asdict(other)
        return Totals(**{name: mine[name] - yours[name] for name in mine})


class Traffic:
    """Callers in every site."""

    def __init__(self, sites: dict[str, Cluster], image: str, service: str, model: str) -> None:
        """`service`: host name of the model's Service inside a site; `model`: its name in the protocol."""
        self._sites = sites
        self._image = image
        self._service = service
        self._model = model
        self._last: dict[str, Totals] = {}
        self.errors: dict[str, str] = {}
        """The last failure each site's caller saw."""

    def start(self, images: Path) -> None:
        """Start the callers, with the canvases of an npz file. Again: nothing happens. Raises CommandError."""
        for site in self._sites.values():
            site.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
                self._files(images),
                self._pod(),
            )

    def restart(self, images: Path) -> None:
        """End the callers and start new ones that count from zero. Raises CommandError."""
        for site in self._sites.values():
            site.kubectl("delete", "pod", POD, "-n", NAMESPACE, "--ignore-not-found", "--grace-period=1")
        self._last.clear()
        self.start(images)

    def totals(self, site: str) -> Totals:
        """What a site's caller counted until about half a second ago; the last known when it cannot be read."""
        try:
            line = self._sites[site].text(f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}/log", tailLines=1)
            said = json.loads(line)
        except (UnseenError, json.JSONDecodeError):
            return self._last.get(site, Totals())
        self._last[site] = Totals(**{each.name: said[each.name] for each in fields(Totals)})
        if said.get("error"):
            self.errors[site] = said["error"]
        return self._last[site]

    def _files(self, images: Path) -> dict[str, Any]:
        packed = base64.b64encode(images.read_bytes()).decode()
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": POD, "namespace": NAMESPACE},
            "data": {"caller.py": CALLER.read_text()},
            "binaryData": {"traffic.npz": packed},
        }

    def _pod(self) -> dict[str, Any]:
        arguments = ["--url", f"http://{self._service}", "--model", self._model, "--rate", str(RATE)]
        container = {
            "name": POD,
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "/caller/caller.py", "--images", "/caller/traffic.npz", *arguments],
            "volumeMounts": [{"name": "files", "mountPath": "/caller"}],
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": POD, "namespace": NAMESPACE, "labels": {"app": POD}},
            "spec": {
                # one that died must be seen as dead, not counted anew from zero
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": [{"name": "files", "configMap": {"name": POD}}],
            },
        }
