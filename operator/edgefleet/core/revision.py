"""What makes a revision: the things that, changed, give callers another model or another pod."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from edgefleet.core import order as wire
from edgefleet.core.seen import RolloutObject
from edgefleet.core.specs import ModelSpec


def bundle_digest(bundle: str) -> str:
    """`sha256:<hex>` of a reference `oci://…@sha256:<hex>`."""
    return bundle.rpartition("@")[2]


def without_replicas(serving: wire.Serving) -> wire.Serving:
    """The part of serving that belongs to a revision; the number of pods is applied in place."""
    return msgspec.structs.replace(serving, replicas=1)


def revision_of(digest: str, variants: tuple[str, ...], serving: wire.Serving, image: str) -> str:
    """First 10 hex digits of the hash of a bundle's digest, variants, serving without replicas, and pod image."""
    frozen = {
        "bundle": digest,
        "variants": list(variants),
        "serving": wire.to_wire(without_replicas(serving)),
        "image": image,
    }
    canonical = json.dumps(frozen, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The revision a spec asks for, and the pod image that belongs to it."""

    revision: str
    image: str


def wanted(spec: ModelSpec, rollouts: Iterable[RolloutObject], pod_image: str) -> Wanted:
    """The revision a spec asks for.

    The image is the one frozen when the same spec was first rolled out: an operator that comes with a newer pod
    image starts no rollout by itself. `rollouts` newest first.
    """
    for rollout in rollouts:
        if _asks_for(spec, rollout):
            return Wanted(rollout.spec.revision, rollout.spec.image)
    digest = bundle_digest(spec.bundle)
    return Wanted(revision_of(digest, spec.variants, spec.serving, pod_image), pod_image)


def _asks_for(spec: ModelSpec, rollout: RolloutObject) -> bool:
    return (
        bundle_digest(spec.bundle) == bundle_digest(rollout.spec.bundle)
        and spec.variants == rollout.spec.variants
        and without_replicas(spec.serving) == without_replicas(rollout.spec.serving)
    )
