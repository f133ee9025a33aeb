"""The command line imports what a sub-command needs when it is used, and says what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from edgefleet.cli import main
from edgefleet.cli.main import COMMANDS, Lazy, cli
from support.bundles import ALICE, MALLORY, forge


def test_help_lists_every_command_and_imports_none_of_the_heavy_ones() -> None:
    code = "import sys; from edgefleet.cli.main import cli; cli.main(['--help'], standalone_mode=False); "
    code += "print([name for name in ('onnx', 'onnxruntime', 'kubernetes', 'kopf', 'numpy') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=60)
    assert found.returncode == 0, found.stderr
    for name, lazy in COMMANDS.items():
        assert name in found.stdout
        assert lazy.help in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("lazy", "says"),
    [
        (Lazy("edgefleet.cli.nowhere", "x", "cli", ""), "not part of this installation"),
        (Lazy("no_such_module_anywhere", "x", "cli", ""), r"pip install 'edgefleet[cli]'"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(
    lazy: Lazy, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "odd", lazy)
    result = CliRunner().invoke(cli, ["odd"])
    assert result.exit_code == 3
    assert says in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(cli, ["nonsense"]).exit_code == 2


def test_a_new_key_is_readable_by_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    first = CliRunner().invoke(cli, ["keys", "create", "--out", str(tmp_path), "--name", "k"])
    assert first.exit_code == 0, first.output
    assert (tmp_path / "k.key").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "k.key").read_bytes()
    again = CliRunner().invoke(cli, ["keys", "create", "--out", str(tmp_path), "--name", "k"])
    assert again.exit_code == 1
    assert "exists" in again.output
    assert (tmp_path / "k.key").read_bytes() == before


def test_a_key_pair_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_text("somebody's")
    result = CliRunner().invoke(cli, ["keys", "create", "--out", str(tmp_path), "--name", "k"])
    assert result.exit_code == 1
    assert not (tmp_path / "k.key").exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    forge(version=7).write(tmp_path / "bundle")
    (tmp_path / "alice.pub").write_bytes(ALICE.public)
    (tmp_path / "mallory.pub").write_bytes(MALLORY.public)
    return tmp_path


def edgefleet(*arguments: str | Path) -> tuple[int, str, str]:
    """Run the command line as a user does."""
    found = subprocess.run(
        [sys.executable, "-m", main.__name__, *map(str, arguments)],
        text=True,
        capture_output=True,
        timeout=60,
    )
    return found.returncode, found.stdout, found.stderr


def test_a_bundle_in_a_folder_is_verified_against_the_key(folder: Path) -> None:
    code, out, err = edgefleet(
        "bundle", "verify", folder / "bundle", "--trust", folder / "alice.pub", "--deep"
    )
    assert code == 0, err
    assert "demo version 7" in out


def test_verifying_against_another_key_fails_with_the_reason_first(folder: Path) -> None:
    code, out, err = edgefleet("bundle", "verify", folder / "bundle", "--trust", folder / "mallory.pub")
    assert code == 1
    assert err.startswith("UntrustedKey: ")
    assert not out


def test_a_flipped_byte_in_a_model_is_found_by_the_deep_look(folder: Path) -> None:
    blobs = folder / "bundle" / "blobs" / "sha256"
    model = next(path for path in blobs.iterdir() if path.read_bytes() == b"a model")
    model.write_bytes(b"a Model")
    code, _, err = edgefleet("bundle", "verify", folder / "bundle", "--trust", folder / "alice.pub", "--deep")
    assert code == 1
    assert err.startswith("DigestMismatch: ")


def test_inspecting_shows_what_the_bundle_says(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["bundle", "inspect", str(folder / "bundle")])
    assert result.exit_code == 0, result.output
    assert "demo version 7" in result.output
    assert "FP32 (any, 4)" in result.output
