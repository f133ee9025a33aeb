"""Which worker runs what when tests run on several: whole files, and the full clusters last and alone.

Cluster tests wait more than they compute, so two workers with API servers of their own take half the time. Tests on
full clusters measure callers' requests and share one telling of the demo: they stay on one worker, in their order,
and begin when nothing else is left to run.
"""

from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ALONE: Final = "tests/e2e and tests/faults"
_FOLDERS: Final = ("tests/e2e/", "tests/faults/")


class Sharing(LoadScopeScheduling):
    """Hands out files in the order of collection; what must be alone when the others have at most one test left.

    A worker begins its last test only when it knows that none follows, so one is as little as a worker can have.
    """

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        """Keep the order of collection: quick levels first."""
        super().__init__(config, log)
        self.config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return ALONE if path.startswith(_FOLDERS) else path

    def _reschedule(self, node: WorkerController) -> None:
        if list(self.workqueue) != [ALONE]:
            super()._reschedule(node)
            return
        others = [other for other in self.nodes if other is not node]
        if any(self._pending_of(self.assigned_work[other]) > 1 for other in others):
            return
        super()._reschedule(node)
        if not self.workqueue:
            for other in others:
                other.shutdown()
