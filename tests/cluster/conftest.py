"""What every test against an API server may use."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support import hub
from support.cluster import admin, api_server, site_api_server
from support.hub import Fleet, Operator, Shelf

__all__ = ["api_server", "fleet", "operator", "shelf", "site_api_server"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """A registry with keys, one that is trusted and one that is not."""
    with hub.shelf(tmp_path_factory.mktemp("shelf")) as made:
        yield made


@pytest.fixture(scope="module")
def operator(api_server: Path, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """One operator for all tests of a module, a process of its own with the rights of the chart."""
    with hub.running(api_server, shelf, tmp_path_factory.mktemp("operator")) as made:
        yield made


@pytest.fixture
async def fleet(api_server: Path, operator: Operator) -> AsyncIterator[Fleet]:
    """Sites and a namespace for one test."""
    async with admin(api_server) as api, Fleet(api) as made:
        yield made
