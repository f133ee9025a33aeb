"""The real CNCF distribution server on a loopback port, with its own data and nothing left behind.

The program is taken from PATH, or else from Debian's package, which is unpacked into `build/registry` and not
installed: no service starts and root is not needed.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

_ROOT = Path(__file__).resolve().parents[2]
_CACHE = _ROOT / "build" / "registry"
_PACKAGE = "docker-registry"


@dataclass(frozen=True, slots=True)
class Server:
    """A running registry."""

    host: str
    """`127.0.0.1:port`"""
    data: Path
    log: Path

    def blob(self, digest: str) -> Path:
        """Where the server keeps a blob's bytes."""
        name = digest.removeprefix("sha256:")
        return self.data / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def requests(self) -> list[str]:
        """Request lines it answered, from its access log."""
        return [line.split('"')[1] for line in self.log.read_text().splitlines() if line.count('"') >= 6]


def program() -> Path | None:
    """Find the distribution server, fetching the package when there is a way; None when there is none."""
    for name in ("docker-registry", "registry"):
        if found := shutil.which(name):
            return Path(found)
    cached = _CACHE / "usr/bin/docker-registry"
    if cached.exists():
        return cached
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers of one test run want it at once
        if not cached.exists():
            _unpack()
    return cached if cached.exists() else None


def _unpack() -> None:
    if _download().returncode and os.geteuid() == 0:
        subprocess.run(
            ["apt-get", "-qq", "update"], stdin=subprocess.DEVNULL, capture_output=True, timeout=120
        )
        _download()
    for archive in _CACHE.glob(f"{_PACKAGE}_*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive, _CACHE], check=True, timeout=60)


@contextlib.contextmanager
def serve(folder: Path, *, htpasswd: str = "") -> Iterator[Server]:
    """Run a server with its data in `folder`. `htpasswd`: the content of such a file; it then asks for a password."""
    binary = program()
    if binary is None:
        raise FileNotFoundError("no CNCF distribution server: install docker-registry")
    port = _free_port()
    server = Server(f"127.0.0.1:{port}", folder / "data", folder / "registry.log")
    config = folder / "config.yml"
    config.write_text(yaml.safe_dump(_config(server, folder, htpasswd)))
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [binary, "serve", config],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _config(server: Server, folder: Path, htpasswd: str) -> dict[str, object]:
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(server.data)}, "delete": {"enabled": True}},
        "http": {"addr": server.host, "secret": "not a secret"},
    }
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    return config


def _download() -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["apt-get", "-qq", "download", _PACKAGE],
        cwd=_CACHE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://{server.host}/v2/", timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
            continue
        return
    raise RuntimeError(f"the registry did not start: {server.log.read_text()[-2000:]}")
