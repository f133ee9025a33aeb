"""One order: every field of it, and the mode in which a site takes a revision up."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

import msgspec

from edgefleet.core import names, opening, revision, targets, units
from edgefleet.core import order as wire
from edgefleet.core.attempts import Attempts
from edgefleet.core.decisions import OrderWrite
from edgefleet.core.fleet import SiteView
from edgefleet.core.order import Mode, State
from edgefleet.core.seen import RolloutObject
from edgefleet.core.specs import ModelSpec

GO_BACK: Final = "GoBack"
"""Reason of an order that takes a site off what may not be run."""


@dataclass(frozen=True)
class Composer:
    """Writes the orders of one model in one pass."""

    namespace: str
    name: str
    spec: ModelSpec
    attempts: Attempts
    now: datetime

    @cached_property
    def _moment(self) -> str:
        return units.timestamp(self.now)

    @cached_property
    def _model(self) -> wire.ModelRef:
        return wire.ModelRef(namespace=self.namespace, name=self.name)

    @cached_property
    def _servings(self) -> Mapping[str, wire.Serving]:
        """What each rollout serves by, with as many pods as the spec asks for now."""
        replicas = self.spec.serving.replicas
        return {
            item.meta.name: msgspec.structs.replace(item.spec.serving, replicas=replicas)
            for item in self.attempts.all
        }

    @cached_property
    def _references(self) -> Mapping[str, str]:
        """Where each rollout's bundle is to be had: a registry corrected in the spec, as long as the digest is the same."""
        asked = self.spec.bundle
        digest = revision.bundle_digest(asked)
        return {
            item.meta.name: asked if revision.bundle_digest(item.spec.bundle) == digest else item.spec.bundle
            for item in self.attempts.all
        }

    def offer(self, view: SiteView, rollout: RolloutObject, wave: str, reason: str) -> OrderWrite:
        """An order to run a rollout's revision."""
        frozen, mode = rollout.spec, self._mode(view, rollout)
        back = reason == GO_BACK or (mode is Mode.DIRECT and self.leaves_bad(view, rollout))
        order = wire.Order(
            order_version=names.ORDER_VERSION,
            state=State.RUN,
            mode=mode,
            model=self._model,
            revision=frozen.revision,
            attempt=frozen.attempt,
            bundle=self.reference(rollout),
            variants=frozen.variants,
            image=frozen.image,
            serving=self._servings[rollout.meta.name],
            canary=self.canary(view),
            rollout=rollout.meta.name,
            wave=wave,
            offered_at=self._moment,
            replaces=self._replaces(view, revision.bundle_digest(frozen.bundle)),
            jurisdictions=self.spec.placement.jurisdictions,
            go_back=back and opening.obeys(view),
        )
        return write(view, self.namespace, self.name, order, reason)

    def change(self, view: SiteView, reason: str, **changes: object) -> OrderWrite:
        """The site's order with some fields changed: offered anew, so the site has its full time to answer it."""
        if view.order is None:
            raise ValueError(f"site {view.name} has no order to change")
        order = msgspec.structs.replace(view.order, offered_at=self._moment, **changes)
        return write(view, self.namespace, self.name, order, reason)

    def leaves_bad(self, view: SiteView, rollout: RolloutObject) -> bool:
        """Whether a site goes from a revision it may not run back to one that is no trial of its own."""
        running = self.attempts.running
        trial = running is not None and rollout.meta.name == running.meta.name
        return not trial and self._on_bad(view)

    def _on_bad(self, view: SiteView) -> bool:
        """Whether what serves at a site is banned, or withheld from the site's cohort."""
        serving = view.report.active_revision
        if serving in self.attempts.bad:
            return True
        last = self.attempts.last_of(serving) if self.attempts.held else None
        return last is not None and targets.held(view, last, self.attempts)

    def _mode(self, view: SiteView, rollout: RolloutObject) -> Mode:
        """Direct where there is nothing good to compare with, or nothing to learn; else Canary.

        A site whose stable pods are down takes a Canary order up like a Direct one: only it can tell a restart from that.
        """
        report, of = view.report, rollout.spec.revision
        if rollout.spec.direct or not report.active_revision or self.leaves_bad(view, rollout):
            return Mode.DIRECT
        served_well = of in (report.active_revision, report.previous_revision)
        failed_here = any(item.revision == of for item in report.refused)
        return Mode.DIRECT if served_well and not failed_here else Mode.CANARY

    def reference(self, rollout: RolloutObject) -> str:
        """Where a rollout's bundle is to be had now."""
        return self._references[rollout.meta.name]

    def canary(self, view: SiteView) -> wire.Canary:
        """The model's canary settings; agreement with a revision that may not run is nothing to ask for."""
        canary = self.spec.canary
        if not self._on_bad(view):
            return canary
        return msgspec.structs.replace(canary, gates=msgspec.structs.replace(canary.gates, min_agreement=""))

    def _replaces(self, view: SiteView, target: str) -> str:
        """The digest to leave: what serves if this hub ordered it once, else what was ordered last.

        It names no digest but of bundles it has rolled out: a restored or replayed hub does not know the newer one and
        cannot name it, so the site refuses it.
        """
        serving = view.report.active_bundle
        ordered = revision.bundle_digest(view.order.bundle) if view.order is not None else ""
        if serving and serving != target and serving in self.attempts.digests:
            return serving
        return ordered if ordered != target else ""


def write(view: SiteView, namespace: str, name: str, order: wire.Order, reason: str) -> OrderWrite:
    """Put an order in the place of a site's present one, or beside nothing."""
    return OrderWrite(
        site=view.name,
        name=names.order_name(namespace, name),
        order=order,
        labels=_labels(view.name, namespace, name, order),
        reason=reason,
        uid=view.meta.uid if view.meta else "",
        resource_version=view.meta.resource_version if view.meta else "",
    )


def _labels(site: str, namespace: str, name: str, order: wire.Order) -> Mapping[str, str]:
    return {
        names.SITE: site,
        names.MODEL: names.order_name(namespace, name),
        names.REVISION: order.revision,
        names.ROLLOUT: order.rollout,
        names.MANAGED_BY: "edgefleet",
    }
