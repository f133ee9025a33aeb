"""What processes use, from /proc, and what an API server and an operator say of themselves."""

import os
import re
import ssl
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Usage:
    """One look at a process."""

    at: float
    cpu: float
    """Seconds of processor time so far."""
    mib: float
    peak_mib: float

    def cores(self, before: "Usage") -> float:
        """Mean cores used since an earlier look."""
        return round((self.cpu - before.cpu) / max(1e-9, self.at - before.at), 3)


def usage(pid: int) -> Usage:
    """Look at a process now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return Usage(
        at=time.monotonic(),
        cpu=(int(fields[11]) + int(fields[12])) / _TICKS,
        mib=round(int(status["VmRSS"].split()[0]) / 1024, 1),
        peak_mib=round(int(status["VmHWM"].split()[0]) / 1024, 1),
    )


def load() -> str:
    """The machine's load: all that runs, ours and others'."""
    return " ".join(Path("/proc/loadavg").read_text().split()[:3])


Samples = list[tuple[str, Mapping[str, str], float]]


def samples(text: str) -> Samples:
    """Read a page of Prometheus metrics."""
    found: Samples = []
    for line in text.splitlines():
        if match := _SAMPLE.match(line):
            labels = dict(_LABEL.findall(match[2] or ""))
            found.append((match[1], labels, float(match[3])))
    return found


def total(page: Samples, name: str, **labels: str) -> float:
    """The sum of a metric over all samples with these labels."""
    return sum(
        value
        for found, has, value in page
        if found == name and all(has.get(key) == wanted for key, wanted in labels.items())
    )


def scrape(server: str, ca: str, token: str) -> Samples:
    """The metrics of an API server, by an administrator's token (with its scheme)."""
    request = urllib.request.Request(server + "/metrics", headers={"Authorization": token})
    with urllib.request.urlopen(request, timeout=60, context=ssl.create_default_context(cafile=ca)) as answer:
        return samples(answer.read().decode())
