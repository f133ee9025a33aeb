"""The explained reasons are those the code gives."""

import ast
from pathlib import Path

import edgefleet
from edgefleet.cli import reasons

SOURCE = Path(edgefleet.__file__).parent


def _words() -> set[str]:
    """Every string constant outside the command line."""
    files = [path for path in SOURCE.rglob("*.py") if "cli" not in path.parts]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_explained_reason_is_given_somewhere() -> None:
    assert sorted(set(reasons.KNOWN) - _words()) == []


def test_reasons_of_bundles_say_what_to_do_unless_they_pass_by_themselves() -> None:
    assert reasons.KNOWN["UntrustedKey"].act
    assert not reasons.KNOWN["RegistryUnreachable"].act
