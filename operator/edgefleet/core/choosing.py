"""What each site should run, and whether it must leave what it was told: worked out once for all sites that are alike.

A fleet of thousands has a handful of kinds of sites: those whose orders and reports name the same things, and that are
in the same cohorts where one is held. Only sites that failed are looked at one by one.
"""

from collections.abc import Container

import msgspec

from edgefleet.core import cohorts, going_back, targets
from edgefleet.core.attempts import Attempts
from edgefleet.core.fleet import SiteView
from edgefleet.core.targets import Target


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What is chosen for one site."""

    target: Target
    leaves: bool
    """Its order names what may not be run there."""
    follows: bool
    """Its order is one of the target already."""


class Chooser:
    """Chooses for the sites of one pass. `admitted`: to the running rollout, in this pass."""

    def __init__(self, attempts: Attempts, admitted: Container[str]) -> None:
        self._attempts = attempts
        self._admitted = admitted
        self._blamed = frozenset[str]().union(*attempts.failed_sites.values())
        self._keys = sorted({key for held in attempts.held.values() for key in held})
        self._known: dict[tuple[object, ...], Choice] = {}

    def choose(self, view: SiteView) -> Choice:
        """The choice for a site."""
        name, order, serves = view.name, view.running, view.report.active_revision
        admitted = name in self._admitted
        if view.report.refused or name in self._blamed:
            return self._choose(view, admitted)
        # all that `targets.target` and `going_back.must_leave` read of a site that has not failed
        kind: tuple[object, ...] = (admitted, serves)
        if order is not None:
            kind = (admitted, serves, order.rollout, order.revision, order.attempt, order.replaces)
        if self._keys:
            kind = (*kind, view.site is None, *(cohorts.value(view, key) for key in self._keys))
        known = self._known.get(kind)
        if known is None:
            known = self._known[kind] = self._choose(view, admitted)
        return known

    def _choose(self, view: SiteView, admitted: bool) -> Choice:
        attempts, order = self._attempts, view.running
        target = targets.target(view, attempts, admitted or targets.member(view, attempts.running))
        return Choice(
            target,
            leaves=order is not None and going_back.must_leave(view, order, attempts),
            follows=target.rollout is not None and targets.member(view, target.rollout),
        )
