"""What all state folders of a machine share: addresses, bridges, kernel settings.

Two checkouts, or a test beside a demo, must not take the same address. Each
cluster holds a claim under /run; the last claim to go takes the bridges along.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from localkube import network, plan
from localkube.places import MACHINE, LocalkubeError
from localkube.shell import succeeds

if TYPE_CHECKING:
    from collections.abc import Iterator

# A kubelet, its containerd and its API server take some thirty inotify instances; a fresh machine allows 128 in all.
RAISED = {"fs/inotify/max_user_instances": 1024, "fs/inotify/max_user_watches": 262144}
# kubelet sets these for the whole machine; the last cluster puts them and those above back.
TUNABLES = (
    *RAISED,
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
LOCK = Path(f"{MACHINE}.lock")
SAVED = MACHINE / "machine.saved"
NETNS_FOLDER = Path("/run/netns")
# kubelet has this path built in, whatever its root folder is.
PLUGIN_SOCKET = Path("/var/lib/kubelet/device-plugins/kubelet.sock")


@contextmanager
def _locked() -> Iterator[None]:
    while True:
        with LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The last cluster to go deletes the file: who waited on it has locked nothing.
            if not LOCK.exists() or LOCK.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                continue
            MACHINE.mkdir(mode=0o755, exist_ok=True)
            yield
            return


def _all() -> dict[str, dict[str, str]]:
    found = {}
    for file in MACHINE.glob("*.json"):
        with suppress(ValueError, FileNotFoundError):
            found[file.stem] = json.loads(file.read_text())
    return found


def _stale(claim: dict[str, str]) -> bool:
    """Its state folder was deleted by hand, and nothing of it runs."""
    return not Path(claim["home"]).exists() and not Path("/run/netns", claim["netns"] or "-").exists()


def take_index(name: str, home: Path, wanted: int | None = None) -> int:
    """An address for a cluster, the one it had before when there is one, and the bridges to use it on."""
    netns = f"ef-{name}"
    with _locked():
        held = _all()
        order = range(plan.MAX_CLUSTERS) if wanted is None else (wanted,)
        for key, claim in held.items():
            if claim["home"] == str(home):
                _machine_up()
                return int(key)
            if claim["netns"] == netns and not _stale(claim):
                raise LocalkubeError(
                    f"'{name}' is already a cluster of {claim['home']}: take another name, or end that one first with"
                    f" LOCALKUBE_STATE={Path(claim['home']).parent} python3 localkube down {name}"
                )
        free = (each for each in order if str(each) not in held or _stale(held[str(each)]))
        index = next(free, None)
        if index is None and wanted is not None:
            raise LocalkubeError(
                f"another cluster took the address of '{name}': run `python3 localkube down {name}` and `up` again"
            )
        index = plan.MAX_CLUSTERS if index is None else index
        plan.addresses(index)
        _write(str(index), home, netns)
        _machine_up()
        return index


def holder(name: str) -> Path | None:
    """The folder of the full cluster that has this name on this machine, in whichever checkout."""
    netns = f"ef-{name}"
    homes = (Path(claim["home"]) for claim in _all().values() if claim["netns"] == netns)
    return next(homes, None)


def hold(key: str, home: Path) -> None:
    """A claim on the bridges alone (the registry's)."""
    with _locked():
        _write(key, home, "")
        _machine_up()


def _write(key: str, home: Path, netns: str) -> None:
    (MACHINE / f"{key}.json").write_text(json.dumps({"home": str(home), "netns": netns}))


def _machine_up() -> None:
    if not SAVED.exists():
        values = {
            each: (Path("/proc/sys") / each).read_text()
            for each in TUNABLES
            if (Path("/proc/sys") / each).exists()
        }
        SAVED.write_text(json.dumps({"tunables": values, "netns_folder": NETNS_FOLDER.exists()}))
    for each, least in RAISED.items():
        knob = Path("/proc/sys") / each
        if knob.exists() and int(knob.read_text()) < least:
            knob.write_text(str(least))
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
        _machine_as_before()
        with suppress(OSError):
            MACHINE.rmdir()
            LOCK.unlink(missing_ok=True)


def _machine_as_before() -> None:
    if SAVED.exists():
        saved = json.loads(SAVED.read_text())
        for each, value in saved["tunables"].items():
            with suppress(OSError):
                (Path("/proc/sys") / each).write_text(value)
        if not saved["netns_folder"] and NETNS_FOLDER.exists() and not any(NETNS_FOLDER.iterdir()):
            # `ip netns add` mounts this folder on itself the first time.
            succeeds(["umount", NETNS_FOLDER])
            with suppress(OSError):
                NETNS_FOLDER.rmdir()
        SAVED.unlink()
    if PLUGIN_SOCKET.is_socket() and not _listening(PLUGIN_SOCKET):
        PLUGIN_SOCKET.unlink()
        with suppress(OSError):
            PLUGIN_SOCKET.parent.rmdir()
            PLUGIN_SOCKET.parent.parent.rmdir()


def _listening(path: Path) -> bool:
    """Whether a kubelet of somebody else's is behind the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def held_by(home: Path) -> int | None:
    """The index a folder holds, as the machine remembers it."""
    for key, claim in _all().items():
        if claim["home"] == str(home) and key.isdigit():
            return int(key)
    return None
