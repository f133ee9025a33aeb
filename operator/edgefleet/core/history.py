"""Which ended rollouts may be forgotten."""

from edgefleet.core.attempts import Attempts
from edgefleet.core.decisions import ObjectDelete
from edgefleet.core.fleet import Fleet


def prune(attempts: Attempts, fleet: Fleet, limit: int) -> tuple[ObjectDelete, ...]:
    """Ended rollouts beyond `limit` that nothing needs: neither an order nor a report names them or their revision."""
    needed = {item.meta.name for item in (attempts.newest, attempts.current) if item is not None}
    ended = [item for item in attempts.all if item.meta.name not in needed]
    if len(ended) <= limit:
        return ()
    names, revisions = _named(fleet)
    return tuple(
        ObjectDelete(name=item.meta.name, uid=item.meta.uid)
        for item in ended[limit:]
        if item.meta.name not in names and item.spec.revision not in revisions
    )


def _named(fleet: Fleet) -> tuple[set[str], set[str]]:
    """Rollouts named by orders; revisions named by orders or by what sites serve, served or refused."""
    names, revisions = set(), set()
    for view in fleet.views:
        if view.order is not None:
            names.add(view.order.rollout)
            revisions.add(view.order.revision)
        report = view.report
        revisions.update((report.active_revision, report.previous_revision))
        revisions.update(entry.revision for entry in report.refused)
    return names, revisions
