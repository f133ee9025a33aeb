"""Container images without Docker: a base from the machine's own release, buildah on top."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from localkube import node, packages, processes, teardown, trees
from localkube.gobuild import one_at_a_time
from localkube.places import Cluster, LocalkubeError, cache_dir
from localkube.shell import run, say, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BASE_PACKAGES = ("python3-minimal", "python3-venv", "ca-certificates")
# Bump when the base is made differently.
BASE_RECIPE = "1"
ACCEPT_ALL = {"default": [{"type": "insecureAcceptAnything"}]}


def codename() -> str:
    """The release this machine runs, by name."""
    release = platform.freedesktop_os_release()
    if "debian" not in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        raise LocalkubeError("images are built on Debian or Ubuntu: elsewhere give --builder docker")
    name = release.get("UBUNTU_CODENAME") or release.get("VERSION_CODENAME")
    if not name:
        raise LocalkubeError("/etc/os-release names no release: give --builder docker")
    return name


def base_name() -> str:
    """The base image's name in buildah's store."""
    return f"localhost/edgefleet-base:{codename()}-{BASE_RECIPE}"


def _buildah(*words: str | Path) -> list[str | Path]:
    """buildah with a store of its own, so that no user's images are touched."""
    store = cache_dir() / "buildah"
    settings = cache_dir() / "containers.conf"
    settings.write_text(f'[network]\nnetwork_config_dir = "{store}/networks"\n')
    return [
        "env",
        f"CONTAINERS_CONF={settings}",
        "buildah",
        "--root",
        store,
        "--runroot",
        store / "run",
        "--storage-driver",
        _driver(),
        *words,
    ]


def _driver() -> str:
    kind = run(["stat", "-f", "-c", "%T", cache_dir()]).strip()
    return "vfs" if kind == "overlayfs" else "overlay"


def _policy() -> Path:
    file = cache_dir() / "policy.json"
    file.write_text(json.dumps(ACCEPT_ALL))
    return file


def base() -> str:
    """The base image: made once a release, kept in the cache."""
    name = base_name()
    if succeeds(_buildah("inspect", "--type", "image", name)):
        return name
    archive = cache_dir() / f"base-{codename()}-{BASE_RECIPE}.tar"
    if not archive.exists():
        say(f"making the base image: {codename()} with {', '.join(BASE_PACKAGES)} (half a minute)")
        draft = archive.with_suffix(".new.tar")
        include = f"--include={','.join(BASE_PACKAGES)}"
        run(["mmdebstrap", "--quiet", "--variant=minbase", include, codename(), draft], timeout=1200)
        draft.replace(archive)
    container = run(_buildah("from", "--signature-policy", _policy(), "scratch")).strip()
    try:
        run(_buildah("add", container, archive, "/"))
        run(_buildah("config", "--cmd", "/bin/sh", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container))
        run(_buildah("commit", "--signature-policy", _policy(), "--quiet", container, name))
    finally:
        run(_buildah("rm", container), check=False)
    return name


def build(dockerfile: Path, context: Path, tag: str, output: Path, builder: str) -> bool:
    """Build an image into a docker-archive. False when it was there already."""
    for each in (dockerfile, context):
        if not each.exists():
            raise LocalkubeError(f"{each} does not exist: name the Dockerfile and the folder it copies from")
    origin = base_name() if builder == "buildah" else "docker"
    skipped = trees.ignored_by(context)
    wanted = trees.key([context], dockerfile.read_text(), tag, origin, skipped=skipped)
    if trees.is_current(output, wanted):
        say(f"{tag}: unchanged, {output} stays")
        return False
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(output.name + ".new")
    draft.unlink(missing_ok=True)
    say(f"{tag}: building with {builder}")
    if builder == "docker":
        _with_docker(dockerfile, context, tag, draft)
    else:
        _with_buildah(dockerfile, context, tag, draft)
    draft.replace(output)
    trees.mark_current(output, wanted)
    say(f"{tag}: {output} ({output.stat().st_size // 10**6} MB)")
    return True


def _with_docker(dockerfile: Path, context: Path, tag: str, output: Path) -> None:
    if not succeeds(["docker", "info"]):
        raise LocalkubeError("no Docker engine answers: start it, or leave out --builder docker")
    run(["docker", "build", "--tag", tag, "--file", dockerfile, context], timeout=1800)
    run(["docker", "save", "--output", output, tag], timeout=600)


def _with_buildah(dockerfile: Path, context: Path, tag: str, output: Path) -> None:
    packages.install(packages.missing(packages.FOR_IMAGES), "building images")
    if not node.is_root():
        raise LocalkubeError("building an image unpacks files of other users: run as root (sudo)")
    with one_at_a_time("image"), _unmounted_afterwards():
        local = f"localhost/{tag}"
        build_it = ["bud", "--isolation", "chroot", "--layers", "--pull-never", "--format", "docker"]
        words = _buildah(*build_it, "--signature-policy", _policy(), "--build-arg", f"BASE={base()}")
        run([*words, "--tag", local, "--file", dockerfile, context], timeout=1800)
        run(
            _buildah(
                "push",
                "--signature-policy",
                _policy(),
                "--quiet",
                local,
                f"docker-archive:{output}:{full_name(tag)}",
            )
        )
        run(_buildah("rmi", "--prune"), check=False)


@contextmanager
def _unmounted_afterwards() -> Iterator[None]:
    """buildah leaves its store mounted on itself, and a build that was cut short leaves layers too."""
    try:
        yield
    finally:
        teardown.unmount_below(cache_dir() / "buildah")


def full_name(tag: str) -> str:
    """`edgefleet:dev` as kubelet looks for it: docker.io/library/edgefleet:dev."""
    first, slash, _ = tag.partition("/")
    if not slash:
        return f"docker.io/library/{tag}"
    return tag if "." in first or ":" in first or first == "localhost" else f"docker.io/{tag}"


def load(cluster: Cluster, archive: Path) -> None:
    """Import an archive into a cluster's containerd."""
    if not archive.exists():
        raise LocalkubeError(f"{archive} does not exist: build it with `python3 localkube build-image`")
    if not cluster.full:
        raise LocalkubeError(f"'{cluster.name}' is API-only and runs no pods: start it without --api-only")
    if processes.running(cluster.home / "pids" / "containerd") is None:
        raise LocalkubeError(
            f"'{cluster.name}' does not run: start it with `python3 localkube up {cluster.name}`"
        )
    run(node.ctr(cluster, "images", "import", archive.resolve()), timeout=600)
    # An oci-archive may carry a short name, which containerd keeps and kubelet does not find.
    for name in run(node.ctr(cluster, "images", "ls", "-q")).split():
        if not name.startswith("sha256:") and full_name(name) != name:
            run(node.ctr(cluster, "images", "tag", "--force", name, full_name(name)))
    say(f"{cluster.name}: {archive.name} loaded")


def base_python() -> str:
    """The minor version of the base's Python: the release's own, as /usr/bin has it."""
    try:
        text = run(["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    except LocalkubeError:
        text = f"3.{platform.python_version_tuple()[1]}"
    return text.strip()


def wheels(requirements: Path | None, sources: Sequence[Path], output: Path) -> bool:
    """Fill a folder with wheels for the base's Python. False when nothing changed."""
    for each in (*sources, *([requirements] if requirements else [])):
        if not each.exists():
            raise LocalkubeError(
                f"{each} does not exist: name a requirements file and source folders that do"
            )
    text = requirements.read_text() if requirements else ""
    version = base_python()
    wanted = trees.key(sources, text, version, platform.machine(), skipped=("build", "dist"))
    if trees.is_current(output, wanted):
        say(f"wheels: unchanged, {output} stays")
        return False
    draft = output.with_name(output.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    pip: list[str | Path] = [_pip_python(), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if requirements:
        say(f"wheels: fetching {requirements} for Python {version}")
        hashes = ["--require-hashes", "--no-deps"] if "--hash" in text else []
        target = ["--only-binary=:all:", "--python-version", version, "--implementation", "cp"]
        run([*pip, "download", "--quiet", *hashes, *target, "-r", requirements, "-d", draft], timeout=1800)
    for source in sources:
        say(f"wheels: building {source}")
        with tempfile.TemporaryDirectory() as copy:
            # pip builds in the folder itself and would leave build/ and egg-info behind.
            clean = Path(copy) / source.resolve().name
            shutil.copytree(
                source, clean, ignore=shutil.ignore_patterns("build", "dist", *trees.ALWAYS_SKIPPED)
            )
            run([*pip, "wheel", "--quiet", "--no-deps", "-w", draft, clean], timeout=900)
    shutil.rmtree(output, ignore_errors=True)
    draft.rename(output)
    trees.mark_current(output, wanted)
    say(f"wheels: {len(list(output.glob('*.whl')))} in {output}")
    return True


def _pip_python() -> Path:
    """A Python that has a pip: an environment of its own, since Debian's python3 has none."""
    from localkube.gobuild import make_venv

    home = cache_dir() / "pip"
    python = home / "bin" / "python"
    with one_at_a_time("pip"):
        try:
            ready = python.exists() and succeeds([python, "-m", "pip", "--version"])
        except subprocess.SubprocessError:
            ready = False
        if not ready:
            make_venv(home)
    return python
