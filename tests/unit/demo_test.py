"""What the demo says before it starts anything, what it shows, and which clusters of a user's it takes."""

import io
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demo import named, preflight
from demo.__main__ import looking_around
from demo.cluster import Cluster, CommandError
from demo.fleet import Fleet, Images
from demo.traffic import Totals
from demo.view import LiveView, PlainView
from demo.watching import Picture, SiteView

ROOT = Path(__file__).parents[2]
NOBODY = 65534


# -- before anything is started -----------------------------------------------------------------------------
@pytest.fixture
def checkout() -> Iterator[Path]:
    """What `make demo` reads before it makes anything, where somebody without rights can read it."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "demo").mkdir()
        shutil.copy(ROOT / "Makefile", folder)
        shutil.copy(ROOT / "demo" / "preflight.py", folder / "demo")
        folder.chmod(0o755)
        yield folder


def test_without_root_make_demo_stops_at_once_and_says_what_to_do(checkout: Path) -> None:
    somebody = {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}
    began = time.monotonic()
    done = subprocess.run(
        ["make", "demo"], cwd=checkout, env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False, **somebody,
    )  # fmt: skip
    assert time.monotonic() - began < 5, "a second where nothing else runs"
    assert done.returncode != 0
    assert "sudo make demo" in done.stderr
    assert "HUB_CONTEXT" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("variable", [{"HUB_CONTEXT": "lab"}, {"CLUSTERS": "kind"}])
def test_on_clusters_of_ones_own_nobody_needs_root(
    monkeypatch: pytest.MonkeyPatch, variable: dict[str, str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert preflight.obstacle(os._Environ({}, str, str, str, str))
    assert preflight.obstacle(os._Environ(dict(variable), str, str, str, str)) == ""


# -- what it shows --------------------------------------------------------------------------------------------
def test_a_second_telling_calls_the_models_by_their_names_in_the_story(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = {"stage": "Serving", "activeBundle": "sha256:aa", "activeVersion": 5, "variant": "int8"}
    picture = Picture(0.0, {}, (), {"shop": SiteView("Online", report, {}, Totals())})
    screen = io.StringIO()
    live, plain = LiveView(Console(file=screen, width=160)), PlainView()
    for view in (live, plain):
        view.names = {"sha256:aa": "v1"}
        with view:
            view.show(picture)
    assert "v1 int8" in screen.getvalue()
    assert "v5" not in screen.getvalue()
    assert "serves v1" in capsys.readouterr().out


# -- clusters of a user's ---------------------------------------------------------------------------------------
VARIABLES = {
    "HUB_CONTEXT": "lab-hub",
    "SITE_CONTEXTS": "lab-a, lab-b,",
    "HUB_SERVER": "https://hub:6443",
    "IMAGES": "registry.example/edgefleet",
    "REGISTRY": "registry.example/bundles",
}


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Contexts whose marker was asked for; all of them have it."""
    asked: list[str] = []

    def get(self: Cluster, path: str, **_: Any) -> dict[str, Any]:
        assert path == named.MARKER
        asked.append(self.context)
        return {}

    monkeypatch.setattr(Cluster, "get", get)
    return asked


def test_the_named_contexts_are_hub_and_sites_and_each_must_be_marked(marked: list[str]) -> None:
    fleet = named.find(VARIABLES)
    assert (fleet.hub.context, list(fleet.sites)) == ("lab-hub", ["lab-a", "lab-b"])
    assert marked == ["lab-hub", "lab-a", "lab-b"]
    assert not fleet.plain_http
    assert named.find({**VARIABLES, "REGISTRY_PLAIN_HTTP": "1"}).plain_http


@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize("context", ["admin@lab", "Lab", "arn:aws:eks:lab", "a" * 51])
def test_a_context_that_cannot_name_a_site_is_refused_with_what_to_do(context: str) -> None:
    with pytest.raises(CommandError, match="kubectl config rename-context"):
        named.find({**VARIABLES, "SITE_CONTEXTS": f"lab-a,{context}"})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(CommandError, match="HUB_SERVER, IMAGES"):
        named.find({**VARIABLES, "HUB_SERVER": "", "IMAGES": ""})


# -- what to type next --------------------------------------------------------------------------------------------
def _fleet(context: str) -> Fleet:
    clusters = [Cluster(name, Path(f"/{name}.yaml"), name if context else "") for name in ("hub", "lab-a")]
    return Fleet(
        clusters[0], {"lab-a": clusters[1]}, "https://hub:6443", "registry:5000", Images("a:1", "b:1")
    )


def test_what_to_type_next_works_where_there_is_no_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.__main__.tool", lambda name: ("/cache/kubernetes", name))
    said = looking_around(_fleet(""), 1.0)
    assert "/cache/kubernetes kubectl get efm" in said
    assert "KUBECONFIG=/lab-a.yaml /cache/kubernetes kubectl get efd" in said


def test_what_to_type_next_names_the_contexts_of_a_users_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.__main__.tool", lambda name: (f"/usr/bin/{name}",))
    said = looking_around(_fleet("named"), 1.0)
    assert "\n    kubectl --context hub get efm" in said
    assert "kubectl --context lab-a get efd" in said
    assert "explain model digits -n vision --context hub" in said
    assert "same variables" in said
