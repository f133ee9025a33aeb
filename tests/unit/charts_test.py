"""The charts, read without helm: up to date, no value without schema, no value without effect."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import edgefleet
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHARTS = [ROOT / "charts" / name for name in ("edgefleet-crds", "edgefleet", "edgefleet-site")]
BY_CHART = pytest.mark.parametrize("chart", CHARTS, ids=lambda path: path.name)
FREE = {"resources", "nodeSelector", "publicKeys"}
"""Maps whose keys are the user's."""


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_up_to_date() -> None:
    assert _generator().main(["--check"]) == 0


@BY_CHART
def test_a_chart_has_the_version_of_the_product(chart: Path) -> None:
    described = yaml.safe_load((chart / "Chart.yaml").read_text())

    assert (described["version"], described["appVersion"]) == (edgefleet.__version__, edgefleet.__version__)


@BY_CHART
def test_values_and_their_schema_name_the_same_things(chart: Path) -> None:
    values = set(_paths(yaml.safe_load((chart / "values.yaml").read_text())))
    schema = set(_schema_paths(json.loads((chart / "values.schema.json").read_text())))

    assert schema - {"global"} == values


@BY_CHART
def test_every_value_has_an_effect(chart: Path) -> None:
    templates = "\n".join(path.read_text() for path in (chart / "templates").iterdir())
    used = set(re.findall(r"\.Values\.([\w.]+)", templates))

    leaves = [
        path for path in _paths(yaml.safe_load((chart / "values.yaml").read_text())) if path not in used
    ]
    assert [path for path in leaves if not any(other.startswith(f"{path}.") for other in used)] == []


@BY_CHART
def test_a_template_uses_no_value_that_is_not_there(chart: Path) -> None:
    templates = "\n".join(path.read_text() for path in (chart / "templates").iterdir())
    used = set(re.findall(r"\.Values\.([\w.]+)", templates))

    assert used - set(_paths(yaml.safe_load((chart / "values.yaml").read_text()))) == set()


def _paths(values: dict[str, Any], base: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{base}.{key}".lstrip(".")
        yield path
        if isinstance(value, dict) and key not in FREE:
            yield from _paths(value, path)


def _schema_paths(node: dict[str, Any], base: str = "") -> Iterator[str]:
    for key, child in node.get("properties", {}).items():
        path = f"{base}.{key}".lstrip(".")
        yield path
        yield from _schema_paths(child, path)
