"""A full example of each kind, every field filled in, and the pieces they are made of."""

from typing import Any, Final

from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.kinds import Kind

Object = dict[str, Any]
DIGEST: Final = "sha256:" + "5a" * 32
BUNDLE: Final = f"oci://registry.example:5000/vision/digits@{DIGEST}"
NOW: Final = "2026-11-21T12:00:00Z"
SELECTOR: Final[Object] = {
    "matchLabels": {"country": "de"},
    "matchExpressions": [{"key": "edgefleet.dev/soc", "operator": "In", "values": ["rk3588"]}],
}
RESOURCES: Final[Object] = {
    "requests": {"cpu": "250m", "memory": "128Mi"},
    "limits": {"cpu": "1", "memory": "256Mi"},
}
SERVING: Final[Object] = {
    "replicas": 2,
    "resources": RESOURCES,
    "outputCompression": {"codec": "lz4", "minBytes": 2048},
}
CANARY: Final[Object] = {
    "steps": [
        {"shadow": 100, "duration": "5m"},
        {"weight": 10, "duration": "10m"},
        {"weight": 50, "duration": "1h30m"},
    ],
    "gates": {
        "maxErrorRate": "1%",
        "maxP99": "50ms",
        "minAgreement": "99.5%",
        "minGolden": "95%",
        "minRequests": 100,
    },
    "onNoTraffic": "Golden",
    "progressDeadline": "15m",
    "surge": "Preferred",
}
CONDITION: Final[Object] = {
    "type": "Ready",
    "status": "True",
    "reason": "Serving",
    "message": "all is well",
    "lastTransitionTime": NOW,
    "observedGeneration": 1,
}
WINDOWS: Final[Object] = {
    "download": [{"schedule": "0 1 * * *", "duration": "4h", "timeZone": "Europe/Berlin"}],
    "update": [{"schedule": "30 2 * * MON-FRI", "duration": "1h30m", "timeZone": "UTC"}],
}
INVENTORY: Final[Object] = {
    "arch": "arm64",
    "soc": "rockchip-rk3588",
    "firmware": "2026.01",
    "cpuFeatures": ["asimd"],
    "cpus": 4,
    "memoryBytes": 1 << 30,
    "diskBytes": 1 << 34,
    "diskFreeBytes": 1 << 33,
}

FULL: Final[dict[Kind, Object]] = {
    kinds.EDGE_MODEL: {
        "metadata": {"name": "digits"},
        "spec": {
            "bundle": BUNDLE,
            "variants": ["int8", "fp32"],
            "placement": {"siteSelector": SELECTOR, "jurisdictions": ["EU", "UK"]},
            "serving": SERVING,
            "canary": CANARY,
            "rollout": {
                "waves": [
                    {
                        "name": "lab",
                        "siteSelector": SELECTOR,
                        "limit": "5%",
                        "maxConcurrency": 10,
                        "soak": "30m",
                        "approval": True,
                        "maxFailures": 1,
                        "minSuccess": "100%",
                    },
                    {"name": "rest"},
                ],
                "cohorts": {
                    "by": ["soc", "example.com/board"],
                    "minSites": 5,
                    "maxFailures": "10%",
                    "onFailure": "HoldCohort",
                },
                "rate": {"perMinute": 5, "factor": 3, "every": 20, "maxPerMinute": 500},
                "failureStrategy": "Pause",
            },
            "paused": False,
            "deletionPolicy": "Keep",
            "revisionHistoryLimit": 5,
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [CONDITION],
            "currentRevision": "0123456789",
            "currentBundle": BUNDLE,
            "targetRevision": "0123456789",
            "rollout": "digits-1",
            "bundle": {
                "reference": BUNDLE,
                "version": 3,
                "variants": [
                    {"name": "int8", "cpuFeatures": ["avx2"], "memoryBytes": 1 << 26, "sizeBytes": 1 << 20}
                ],
            },
            "sites": dict.fromkeys(
                (
                    "desired",
                    "updated",
                    "healthy",
                    "unreachable",
                    "failed",
                    "held",
                    "blocked",
                    "unfit",
                    "quarantined",
                ),
                1,
            ),
        },
    },
    kinds.EDGE_SITE: {
        "metadata": {"name": "exampleville"},
        "spec": {
            "heartbeat": {"interval": "120s", "offlineAfter": "6m"},
            "windows": WINDOWS,
            "bandwidth": {"limit": "2Mi"},
            "autonomy": "168h",
            "cordoned": True,
            "jurisdiction": "EU",
            "publicKeySHA256": "5a" * 32,
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [CONDITION],
            "connectivity": "Online",
            "lastSeen": NOW,
            "publicKeySHA256": "5a" * 32,
            "agentVersion": "0.1.0",
            "kubernetesVersion": "v1.36.3+k3s1",
            "inventory": INVENTORY,
            "models": {"serving": 1, "failed": 0, "blocked": 0},
            "quarantine": {
                "since": NOW,
                "until": NOW,
                "reason": "RepeatedFailures",
                "message": "refused 3 revisions that are good elsewhere",
            },
            "releasedAt": NOW,
            "flaps": [{"time": NOW, "of": "Connectivity", "mark": "Away"}],
        },
    },
    kinds.EDGE_ROLLOUT: {
        "metadata": {"name": "digits-3"},
        "spec": {
            "model": "digits",
            "revision": "0123456789",
            "attempt": 1,
            "number": 3,
            "bundle": BUNDLE,
            "bundleVersion": 3,
            "variants": ["int8", "fp32"],
            "serving": {key: value for key, value in SERVING.items() if key != "replicas"},
            "image": "edgefleet/edgepod:0.1.0",
            "desired": "Run",
            "approvals": [{"wave": "lab", "by": "ada"}],
            "finish": False,
            "direct": False,
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [CONDITION],
            "outcome": "Complete",
            "startedAt": NOW,
            "completedAt": NOW,
            "pausedAt": NOW,
            "waves": [
                {
                    "name": "lab",
                    **dict.fromkeys(
                        ("limit", "admitted", "healthy", "failed", "held", "blocked", "unreachable"), 1
                    ),
                    **dict.fromkeys(("startedAt", "soakStartedAt", "completedAt"), NOW),
                }
            ],
            "failures": [
                {
                    "site": "paris",
                    "wave": "lab",
                    "reason": "GoldenDisagrees",
                    "message": "12 %",
                    "time": NOW,
                    "cohorts": ["soc=rk3588"],
                }
            ],
            "holds": [
                {"cohort": "soc=rk3588", "failed": 3, "seen": 4, "since": NOW, "message": "3 of 4 failed"}
            ],
            "counts": dict.fromkeys(
                ("desired", "admitted", "inFlight", "healthy", "failed", "held", "blocked", "unreachable"), 1
            ),
        },
    },
    kinds.EDGE_AGENT: {
        "metadata": {"name": names.AGENT},
        "spec": {
            "heartbeatInterval": "120s",
            "cordoned": True,
            "jurisdiction": "EU",
            "windows": WINDOWS,
            "bandwidthLimit": "2Mi",
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [CONDITION],
            "agentVersion": "0.1.0",
            "kubernetesVersion": "v1.36.3+k3s1",
            "publicKeySHA256": "5a" * 32,
            "jurisdiction": "EU",
            "understands": [names.ORDER_VERSION],
            "inventory": INVENTORY,
            "orphans": ["vision.digits"],
            "clockSkewSeconds": -1.5,
            "windows": {"download": True, "update": False, "trouble": "its clock is 10 min ahead"},
            "storeBytes": 1 << 20,
        },
    },
    kinds.EDGE_DEPLOYMENT: {
        "metadata": {"name": "vision.digits"},
        "spec": {
            "orderVersion": names.ORDER_VERSION,
            "state": "Run",
            "mode": "Canary",
            "model": {"namespace": "vision", "name": "digits"},
            "revision": "0123456789",
            "attempt": 1,
            "bundle": BUNDLE,
            "variants": ["int8", "fp32"],
            "image": "edgefleet/edgepod:0.1.0",
            "serving": SERVING,
            "canary": CANARY,
            "rollout": "digits-3",
            "wave": "lab",
            "offeredAt": NOW,
            "validFor": "24h",
            "replaces": DIGEST,
            "jurisdictions": ["EU", "UK"],
            "goBack": True,
        },
        "status": {
            "observedGeneration": 1,
            "order": {"uid": "0b5ae5a8-1f0b-4a5c-9d5a-3f7f3f1c2b10", "generation": 1},
            "conditions": [CONDITION],
            "stage": "Serving",
            "reason": "Promoted",
            "message": "serves",
            "activeRevision": "0123456789",
            "activeBundle": DIGEST,
            "activeVersion": 3,
            "previousRevision": "9876543210",
            "variant": "int8",
            "download": {"done": 1, "total": 2, "saved": 1},
            "selfTest": {
                "revision": "0123456789",
                "passed": True,
                "agreement": 1.0,
                "accuracy": 0.97,
                "p50Ms": 0.5,
                "p99Ms": 1.5,
                "peakMib": 80.0,
                "reason": "",
            },
            "canary": {
                "step": 1,
                "steps": 3,
                "shadow": 0,
                "weight": 10,
                "requests": 100,
                "errors": 0,
                "agreement": 1.0,
                "message": "",
            },
            "traffic": {
                "requests": 100,
                "errors": 0,
                "p50Ms": 0.5,
                "p99Ms": 1.5,
                "bytesIn": 1,
                "bytesOut": 1,
                "bytesOutRaw": 1,
            },
            "swap": {
                "revision": "0123456789",
                "attempt": 1,
                "outcome": "WentBack",
                "givenUp": "ImagePullFailed",
                "since": NOW,
                "gapSeconds": 12.5,
            },
            "refused": [
                {
                    "revision": "9876543210",
                    "attempt": 1,
                    "reason": "ErrorRate",
                    "message": "",
                    "time": NOW,
                    "variant": "int8",
                }
            ],
            "reportedAt": NOW,
        },
    },
}
