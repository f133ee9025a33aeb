"""What all state folders of a machine share: addresses, bridges, kernel settings.

Two checkouts, or a test beside a demo, must not take the same address. Each
cluster holds a claim under /run; the last claim to go takes the bridges along.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from localkube import network, plan
from localkube.places import MACHINE, LocalkubeError

if TYPE_CHECKING:
    from collections.abc import Iterator

# kubelet sets these for the whole machine; the last cluster puts them back.
TUNABLES = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
TUNABLES += ("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")
SAVED = MACHINE / "tunables.saved"


@contextmanager
def _locked() -> Iterator[None]:
    MACHINE.mkdir(mode=0o755, exist_ok=True)
    with Path(f"{MACHINE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _all() -> dict[str, dict[str, str]]:
    found = {}
    for file in MACHINE.glob("*.json"):
        with suppress(ValueError, FileNotFoundError):
            found[file.stem] = json.loads(file.read_text())
    return found


def _stale(claim: dict[str, str]) -> bool:
    """Its state folder was deleted by hand, and nothing of it runs."""
    return not Path(claim["home"]).exists() and not Path("/run/netns", claim["netns"] or "-").exists()


def take_index(name: str, home: Path) -> int:
    """An address for a new cluster, and the bridges to use it on."""
    netns = f"ef-{name}"
    with _locked():
        held = _all()
        for key, claim in held.items():
            if claim["home"] == str(home):
                _machine_up()
                return int(key)
            if claim["netns"] == netns and not _stale(claim):
                raise LocalkubeError(
                    f"'{name}' is already a cluster of {claim['home']}: take another name, or end that one first with"
                    f" LOCALKUBE_STATE={Path(claim['home']).parent} python3 localkube down {name}"
                )
        free = (each for each in range(plan.MAX_CLUSTERS) if str(each) not in held or _stale(held[str(each)]))
        index = next(free, plan.MAX_CLUSTERS)
        plan.addresses(index)
        _write(str(index), home, netns)
        _machine_up()
        return index


def hold(key: str, home: Path) -> None:
    """A claim on the bridges alone (the registry's)."""
    with _locked():
        _write(key, home, "")
        _machine_up()


def _write(key: str, home: Path, netns: str) -> None:
    (MACHINE / f"{key}.json").write_text(json.dumps({"home": str(home), "netns": netns}))


def _machine_up() -> None:
    if not SAVED.exists():
        values = {each: (Path("/proc/sys") / each).read_text() for each in TUNABLES if (Path("/proc/sys") / each).exists()}
        SAVED.write_text(json.dumps(values))
    network.bridges_up()


def release(home: Path) -> None:
    """Give back what this folder holds; with the last claim go the bridges."""
    if not MACHINE.exists():
        return
    with _locked():
        for key, claim in _all().items():
            if claim["home"] == str(home) or _stale(claim):
                (MACHINE / f"{key}.json").unlink(missing_ok=True)
        if _all():
            return
        network.bridges_down()
        if SAVED.exists():
            for each, value in json.loads(SAVED.read_text()).items():
                with suppress(OSError):
                    (Path("/proc/sys") / each).write_text(value)
            SAVED.unlink()
        with suppress(OSError):
            MACHINE.rmdir()
    Path(f"{MACHINE}.lock").unlink(missing_ok=True)


def held_by(home: Path) -> int | None:
    """The index a folder holds, as the machine remembers it."""
    for key, claim in _all().items():
        if claim["home"] == str(home) and key.isdigit():
            return int(key)
    return None
