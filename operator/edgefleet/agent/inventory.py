"""What this site is made of, read from the node the agent runs on.

Board and firmware are cohort keys: they are cut to `LIMIT` characters a label could have, so that the same board is the
same word everywhere. Container runtimes hide /sys/firmware, and with it the device tree, from pods without privileges;
what the kernel says elsewhere stands in, and a label `soc` or `firmware` on the EdgeSite wins over all of it.
"""

import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgefleet.core.placement import TOLD_FEATURES

_ARCH: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_GRAIN: Final = 256 << 20
"""Free space is told in such steps, bytes: it changes all the time."""
LIMIT: Final = 63
"""Characters of a board's or a firmware's name."""
_READ: Final = 4096
"""Bytes read of a file that holds a name."""
_TREE: Final = "proc/device-tree"
_DMI: Final = "sys/class/dmi/id"
_NOTHING: Final = re.compile(
    r"(to be filled.*|default string|system (product name|version|manufacturer)|not (specified|applicable|available)"
    r"|none|unknown|n-?/?a|o\.?e\.?m\.?|[0-9x]?)",
    re.IGNORECASE,
)
"""What makers write who write nothing."""
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._]+")


@dataclass(frozen=True, slots=True)
class Inventory:
    """Processor, board and memory; the disk is asked each time."""

    arch: str
    cpu_features: frozenset[str]
    cpus: int
    memory_bytes: int
    soc: str = ""
    """Chip or board: the last `compatible` of the device tree, else what the machine calls itself."""
    firmware: str = ""
    """Version of what booted the kernel."""


def read(root: Path = Path("/")) -> Inventory:
    """Read it. What cannot be read is empty or 0."""
    proc = root / "proc"
    lines = _lines(proc / "cpuinfo")
    features = next((value for key, value in lines if key.lower() in ("flags", "features")), "")
    memory = next((value for key, value in _lines(proc / "meminfo") if key == "MemTotal"), "0 kB")
    machine = platform.machine()
    return Inventory(
        arch=_ARCH.get(machine, machine),
        cpu_features=frozenset(features.split()),
        cpus=sum(1 for key, _ in lines if key == "processor"),
        memory_bytes=int(memory.split()[0]) * 1024,
        soc=next(_named(_chips(root, lines)), ""),
        firmware=next(_named(_firmwares(root)), ""),
    )


def status(found: Inventory, store: Path) -> dict[str, Any]:
    """Render it for EdgeAgent.status.inventory."""
    disk = shutil.disk_usage(store)
    told = sorted(item for item in found.cpu_features if item.startswith(TOLD_FEATURES) and len(item) <= 32)
    return {
        "arch": found.arch,
        "soc": found.soc,
        "firmware": found.firmware,
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


def _chips(root: Path, cpuinfo: list[tuple[str, str]]) -> Iterator[str]:
    """Names of the chip, the best first. `compatible` goes from the board to the chip; `model` is the board."""
    yield from reversed(_words(root / _TREE / "compatible"))
    yield from _words(root / _TREE / "model")
    for file in ("soc_id", "machine"):
        yield from _words(root / "sys/devices/soc0" / file)
    yield from (value for key, value in cpuinfo if key in ("Hardware", "Model"))
    for file in ("product_name", "board_name"):
        yield from _words(root / _DMI / file)


def _firmwares(root: Path) -> Iterator[str]:
    for file in ("chosen/bootloader/version", "chosen/u-boot,version"):
        yield from _words(root / _TREE / file)
    yield from _words(root / _DMI / "bios_version")


def _words(path: Path) -> list[str]:
    """The texts in a file of the kernel: one, or several with a zero byte after each."""
    try:
        with path.open("rb") as file:
            found = file.read(_READ)
    except OSError:
        return []
    return [word.decode(errors="replace") for word in found.split(b"\0")]


def _named(found: Iterator[str]) -> Iterator[str]:
    """Those that name something, in characters a label may have."""
    for text in found:
        if not _NOTHING.fullmatch(text.strip()):
            name = _STRANGE.sub("-", text)[: LIMIT + 1].strip("-._")[:LIMIT].strip("-._")
            if name:
                yield name
