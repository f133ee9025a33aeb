"""Order of the levels: what is quick fails first, and the story on full clusters is told in order."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
LEVELS = ("unit", "pod", "cluster", "e2e", "faults")
IN_ORDER = ("e2e", "faults")
"""Levels whose tests share clusters and run as written; all others are shuffled by pytest-randomly."""


def _level(item: pytest.Item) -> str:
    try:
        return item.path.relative_to(ROOT).parts[0]
    except ValueError:
        return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> tuple[int, str, int]:
        level = _level(item)
        rank = LEVELS.index(level) if level in LEVELS else len(LEVELS)
        if level not in IN_ORDER:
            return rank, "", 0
        return rank, str(item.path), item.location[1] or 0

    items.sort(key=place)
