"""What this site is made of, read from the node the agent runs on."""

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_ARCH: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_TOLD: Final = (
    "sse4",
    "ssse3",
    "avx",
    "amx",
    "fma",
    "f16c",
    "bmi",
    "popcnt",
    "vnni",
    "asimd",
    "neon",
    "sve",
    "i8mm",
    "bf16",
    "fphp",
)
"""Beginnings of the features that decide how fast a model runs; the rest stays here."""
_GRAIN: Final = 256 << 20
"""Free space is told in such steps, bytes: it changes all the time."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Processor and memory; the disk is asked each time."""

    arch: str
    cpu_features: frozenset[str]
    cpus: int
    memory_bytes: int


def read(proc: Path = Path("/proc")) -> Inventory:
    """Read it. What cannot be read is empty or 0."""
    lines = _lines(proc / "cpuinfo")
    features = next((value for key, value in lines if key.lower() in ("flags", "features")), "")
    memory = next((value for key, value in _lines(proc / "meminfo") if key == "MemTotal"), "0 kB")
    machine = platform.machine()
    return Inventory(
        arch=_ARCH.get(machine, machine),
        cpu_features=frozenset(features.split()),
        cpus=sum(1 for key, _ in lines if key == "processor"),
        memory_bytes=int(memory.split()[0]) * 1024,
    )


def status(found: Inventory, store: Path) -> dict[str, Any]:
    """Render it for EdgeAgent.status.inventory."""
    disk = shutil.disk_usage(store)
    told = sorted(item for item in found.cpu_features if item.startswith(_TOLD) and len(item) <= 32)
    return {
        "arch": found.arch,
        "cpuFeatures": told[:128],
        "cpus": found.cpus,
        "memoryBytes": found.memory_bytes,
        "diskBytes": disk.total,
        "diskFreeBytes": disk.free // _GRAIN * _GRAIN,
    }


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    pairs = (line.partition(":") for line in text.splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]
