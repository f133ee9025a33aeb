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


def test_every_reason_a_condition_is_given_is_explained() -> None:
    """Conditions are made by `ready`, `reconciling` and `stalled`, whose first argument is the reason."""
    given = set()
    for path in (SOURCE / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _name(node.func) in (
                "ready",
                "reconciling",
                "stalled",
                "CsrDeny",
            ):
                given |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}

    assert given
    assert sorted(given - set(reasons.KNOWN) - {""}) == []  # "": only the names of the conditions are wanted


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_reasons_of_bundles_say_what_to_do_unless_they_pass_by_themselves() -> None:
    assert reasons.KNOWN["UntrustedKey"].act
    assert not reasons.KNOWN["RegistryUnreachable"].act
