"""What the agent remembers of one model. The journal writes it to disk as JSON: a field may be added with a default, never renamed."""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from edgefleet.core.order import Download, Order, OrderIdentity, Refusal, SelfTest, Swap

REFUSALS_KEPT: Final = 20
SERVED_KEPT: Final = 3


class Remembered(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of what is kept on disk. Unknown fields are ignored, so that an older agent reads a newer journal."""


class Output(Remembered, frozen=True, kw_only=True):
    """One output of a model: name, Open Inference Protocol datatype, shape with -1 for a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Staged(Remembered, frozen=True, kw_only=True):
    """A revision whose bundle is verified and whose files are in the store."""

    revision: str
    bundle: str
    """Digest of the bundle's manifest."""
    name: str
    """Name inside the bundle; a model is pinned to the first one it served."""
    version: int
    variant: str
    serving: str
    """Digest of serving.json."""
    blobs: tuple[str, ...]
    """Digests of all files the revision needs from the store, serving.json, manifest and signature included."""
    download: Download = Download()
    outputs: tuple[Output, ...] = ()
    """Empty: not known, it was staged by an older agent."""


class Served(Remembered, frozen=True, kw_only=True):
    """A revision that passed everything here and was, or is just about to be, selected by the Service."""

    order: Order
    staged: Staged
    self_test: SelfTest | None = None

    @property
    def revision(self) -> str:
        """The revision."""
        return self.order.revision


class Record(Remembered, frozen=True, kw_only=True):
    """Everything remembered about one model."""

    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    """The order as it was fetched, with fields this agent may not know."""
    identity: OrderIdentity | None = None
    local: bool = False
    """Applied by hand in this cluster, not by a hub."""
    name: str = ""
    """Pinned bundle name."""
    staged: tuple[Staged, ...] = ()
    """Newest last."""
    served: tuple[Served, ...] = ()
    """Newest last."""
    refused: tuple[Refusal, ...] = ()
    swap: Swap | None = None
    """The last gap in serving that an order allowed."""
    finished: str = ""
    """`Removed` or `Kept` once such an order is carried out."""

    def left_behind(self, running: Collection[str]) -> "Record | None":
        """Return what outlives the order: what still runs here and needs the store, and what failed here.

        A site that leaves a rollout and enters it again must not try what it refused. None: nothing.

        `running` are the revisions that have a Deployment.
        """
        served = tuple(item for item in self.served if item.revision in running)
        staged = tuple(item for item in self.staged if item.revision in running)
        if not served and not staged:
            return Record(refused=self.refused, finished=self.finished) if self.refused else None
        return msgspec.structs.replace(
            self, spec={}, identity=None, local=False, staged=staged, served=served
        )

    def staged_for(self, revision: str) -> Staged | None:
        """Return what is in the store for a revision."""
        return next((item for item in reversed(self.staged) if item.revision == revision), None)

    def served_as(self, revision: str) -> Served | None:
        """Return how a revision was served."""
        return next((item for item in reversed(self.served) if item.revision == revision), None)

    def refusal_of(self, revision: str, attempt: int) -> Refusal | None:
        """Return why a revision is not tried again at this attempt."""
        for item in reversed(self.refused):
            if item.revision == revision and item.attempt >= attempt:
                return item
        return None
