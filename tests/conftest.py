"""Order of the levels: what is quick fails first, and the story on full clusters is told in order."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support.clusters import Told
    from support.sharing import Sharing

ROOT = Path(__file__).parent
LEVELS = ("unit", "pod", "cluster", "e2e", "faults")
IN_ORDER = ("e2e", "faults")
"""Levels whose tests share clusters and run as written; all others are shuffled by pytest-randomly."""

FIRST = "story_test.py"
"""Reads what `make demo` left; the tests after it go on from there."""


def _level(item: pytest.Item) -> str:
    try:
        return item.path.relative_to(ROOT).parts[0]
    except ValueError:
        return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> tuple[int, bool, str, int]:
        level = _level(item)
        rank = LEVELS.index(level) if level in LEVELS else len(LEVELS)
        if level not in IN_ORDER:
            return rank, False, "", 0
        return rank, item.path.name != FIRST, str(item.path), item.location[1] or 0

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "Sharing":
    """Run on several workers without one test disturbing another."""
    from support.sharing import Sharing  # only there when pytest runs on several workers

    return Sharing(config, log)


@pytest.fixture(scope="session")
def told() -> "Iterator[Told]":
    """The demo, told once, and its clusters; defined here so that e2e and faults share one telling."""
    from support.clusters import tell  # starts Kubernetes clients, which quick tests need not wait for

    yield from tell()
