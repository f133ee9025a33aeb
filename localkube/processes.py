"""Daemons that outlive the command that starts them, and their certain end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from localkube.places import LocalkubeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PROC = Path("/proc")
# What we start, by the name of the file that runs. kubectl is the same file as
# the cluster's programs but belongs to the person who runs it.
OURS = frozenset({"localkube", "containerd", "containerd-shim-runc-v2", "docker-registry"})


def start_time(pid: int) -> str | None:
    """When the process began, in ticks since boot: with it a reused pid is told from the old one."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def running(pid_file: Path) -> int | None:
    """The pid a file speaks of, while that very process lives."""
    try:
        pid, began = pid_file.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if start_time(int(pid)) == began else None


def start(
    home: Path,
    name: str,
    command: Sequence[str | Path],
    *,
    netns: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Start a daemon unless it runs. Its output goes to `logs/NAME.log`, its pid to `pids/NAME`."""
    pid_file = home / "pids" / name
    alive = running(pid_file)
    if alive is not None:
        return alive
    log = home / "logs" / f"{name}.log"
    for folder in (pid_file.parent, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    if netns is not None:
        # Not `ip netns exec`: that one mounts a new /sys, without the cgroups kubelet needs.
        words = ["nsenter", f"--net=/run/netns/{netns}", *words]
    with log.open("ab") as output:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is not for it
            cwd="/",
            env={**os.environ, **(environment or {})},
        )
    pid_file.write_text(f"{child.pid} {start_time(child.pid) or 0}\n")
    # It outlives this command: Popen, told that it has ended, does not complain.
    child.returncode = 0
    return child.pid


def _reap(pid: int) -> None:
    """Take leave of an ended child; one that an earlier command started is init's."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def must_live(home: Path, names: Iterable[str]) -> None:
    """Raise with the end of the log when one of these daemons has ended."""
    for name in names:
        if running(home / "pids" / name) is None:
            log = home / "logs" / f"{name}.log"
            tail = (
                "\n".join(log.read_text(errors="replace").splitlines()[-12:])
                if log.exists()
                else "(no output)"
            )
            raise LocalkubeError(
                f"{name} has ended. The end of {log}:\n{tail}\nRun `up` again to start it anew."
            )


def below(home: Path) -> list[int]:
    """Daemons of ours that name a file below this folder, however they were started.

    A command killed between the start of a daemon and the writing of its pid
    leaves no pid file, and containerd starts its shims itself.
    """
    found = []
    prefix = f"{home}/"
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            program = str((entry / "exe").readlink()).removesuffix(" (deleted)")
        except OSError:
            continue
        if (
            Path(program).name in OURS
            and "kubectl" not in words[:2]
            and any(prefix in word for word in words)
        ):
            found.append(int(entry.name))
    return found


def end(pids: Iterable[int], patience: float = 5.0) -> None:
    """End processes: politely, then not."""
    began = {pid: start_time(pid) for pid in pids}
    for each, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        left = [pid for pid, then in began.items() if then is not None and start_time(pid) == then]
        for pid in left:
            try:
                os.kill(pid, each)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + wait
        while left and time.monotonic() < deadline:
            for pid in left:
                _reap(pid)
            left = [pid for pid in left if start_time(pid) == began[pid]]
            time.sleep(0.02)
        if not left:
            for pid in began:
                _reap(pid)
            return
    raise LocalkubeError(f"processes {sorted(began)} do not end; look at them with `ps` and run `down` again")


def end_named(home: Path, names: Iterable[str], patience: float = 5.0) -> None:
    """End daemons by their pid files."""
    found = [pid for name in names if (pid := running(home / "pids" / name)) is not None]
    end(found, patience)
