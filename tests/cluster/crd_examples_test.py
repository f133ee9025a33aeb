"""The examples in the docs are what the API server takes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from edgefleet.kube.client import Object
from support import crds

pytestmark = pytest.mark.cluster
FOLDER = Path(__file__).parents[2] / "docs" / "examples"
EXAMPLES = [
    (path.name, document)
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document and str(document["apiVersion"]).startswith("edgefleet.dev/")
]


@pytest.fixture
async def server(api_server: Path) -> AsyncIterator[crds.Server]:
    async with crds.asking(api_server) as asked:
        yield asked


@pytest.mark.parametrize(("name", "document"), EXAMPLES, ids=[f"{n}:{d['kind']}" for n, d in EXAMPLES])
async def test_an_example_is_taken(server: crds.Server, name: str, document: Object) -> None:
    kind = next(kind for kind in crds.OURS if kind.name == document["kind"])
    document["metadata"].pop("namespace", None)

    assert await server.refusal(kind, document) == "", name
