"""The daemons of a localkube cluster that a bench measures, and how those ended that did.

A server that is gone is seen from outside as a refused connection, which tells nothing. Here its exit status is
asked for, and the end of its log read, before the cluster is taken down.
"""

import ctypes
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_BECOME_SUBREAPER: Final = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
_NOISE: Final = ("addrConn.createTransport failed",)
"""What the API server repeats for each of two hundred connections once its store is gone."""


def adopt() -> None:
    """Become the parent of daemons our children leave behind, so that their exit status comes to us. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(_BECOME_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this kernel lets no process adopt its orphans")


@dataclass
class Servers:
    """The daemons of one cluster, by name."""

    home: Path
    """The cluster's folder, with `pids` and `logs`."""
    pids: dict[str, int]
    ended: dict[str, str] = field(default_factory=dict)
    """How each ended that did."""

    @classmethod
    def of(cls, home: Path) -> "Servers":
        """Those that a cluster has started."""
        return cls(home, {file.name: int(file.read_text().split()[0]) for file in (home / "pids").iterdir()})

    def look(self) -> dict[str, str]:
        """Say again which have ended, and how."""
        for name, pid in self.pids.items():
            if name not in self.ended and (how := _end_of(pid)):
                self.ended[name] = how
        return self.ended

    def last_words(self, name: str, lines: int = 12) -> list[str]:
        """The end of a server's log."""
        log = self.home / "logs" / f"{name}.log"
        if not log.exists():
            return []
        with log.open("rb") as opened:
            opened.seek(max(0, log.stat().st_size - 200_000))
            said = opened.read().decode(errors="replace").splitlines()
        return [line[:400] for line in said if not any(noise in line for noise in _NOISE)][-lines:]


def _end_of(pid: int) -> str:
    """How a process ended; empty while it lives."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return "" if Path(f"/proc/{pid}").exists() else "it ended; its exit status went to another process"
    if not found:
        return ""
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
