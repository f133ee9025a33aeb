"""`build/demo-report.json`: what happened in each step of the story, for people and for tests."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SiteResult:
    """What a site served when the step was over."""

    revision: str
    digest: str
    """Of the bundle."""
    variant: str


@dataclass(frozen=True, slots=True)
class Requests:
    """Asked by the clients inside the sites during the step."""

    sent: int
    failed: int
    """No 2xx within five seconds."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """Outputs as the model made them and as they crossed the wire; model bytes the sites pulled."""

    before_lz4: int
    after_lz4: int
    pulled: int


@dataclass(frozen=True, slots=True)
class Step:
    """One model of the story."""

    name: str
    seconds: float
    """From `kubectl apply` to done."""
    outcome: str
    """`Promoted` or `RolledBack`."""
    sites: dict[str, SiteResult]
    requests: Requests
    bytes: Bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory at the end of the story, MiB; 0 when it could not be read."""

    operator: float
    agent: float
    """The largest of the sites'."""
    pod: float
    """The largest of the sites', serving the demo's model under its traffic."""


@dataclass(frozen=True, slots=True)
class Report:
    """The whole story."""

    steps: list[Step] = field(default_factory=list)
    memory_mib: Memory = Memory(0, 0, 0)

    def write(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        draft.replace(path)
