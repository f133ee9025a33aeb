"""What stands in docs/examples is accepted by a real API server, field by field."""

from pathlib import Path

import pytest
from support.cluster import ROOT

from demo.cluster import Cluster, CommandError

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))
NAMESPACES = ("vision", "edgefleet-models")

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(api_server: Path) -> Cluster:
    """The shared API server, with the namespaces that the examples name."""
    found = Cluster("docs-examples", api_server)
    for name in NAMESPACES:
        found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return found


def _dry_run(cluster: Cluster, text: str) -> str:
    return cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted(cluster: Cluster, example: Path) -> None:
    assert "created (server dry run)" in _dry_run(cluster, example.read_text())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_with_a_misspelt_field_is_not(cluster: Cluster, example: Path) -> None:
    with pytest.raises(CommandError, match="unknown field"):
        _dry_run(cluster, example.read_text().replace("\nspec:\n", "\nspec:\n  misspelt: 1\n"))
