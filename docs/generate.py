"""Writes what follows from other files: the chart's copies of the CRDs, and `docs/reference`.

`make generate` writes them, `make check` runs this with `--check`, which writes nothing and fails when a file
is not what it should be.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from pages import charts, commands, permissions, reasons  # noqa: E402  beside this file, in no package

Schema = dict[str, Any]
KINDS = ("edgemodels", "edgesites", "edgerollouts", "edgedeployments", "edgeagents")
COPIES = ROOT / "charts/edgefleet-crds/templates"
REFERENCE = ROOT / "docs/reference"
DO_NOT_EDIT = "made by docs/generate.py; `make generate` writes it anew"


def main(arguments: list[str]) -> int:
    """Write, or with `--check` compare. Returns the exit code."""
    wanted = dict(generated())
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    left = [path for path in REFERENCE.glob("*.md") if path not in wanted]
    if "--check" in arguments:
        for path in [*stale, *left]:
            print(f"{path.relative_to(ROOT)} is not up to date: run `make generate`", file=sys.stderr)
        return 1 if stale or left else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
        print(path.relative_to(ROOT))
    for path in left:
        path.unlink()
        print(f"{path.relative_to(ROOT)} is gone")
    return 0


def generated() -> Iterator[tuple[Path, str]]:
    """Every generated file and its text."""
    for plural in KINDS:
        source = ROOT / f"crds/{plural}.yaml"
        text = source.read_text()
        yield COPIES / f"{plural}.yaml", chart_copy(text)
        definition = yaml.safe_load(text)
        yield REFERENCE / f"{definition['spec']['names']['singular']}.md", kind_page(definition)
    pages = {
        "permissions": permissions.page(ROOT),
        "reasons": reasons.page(),
        "charts": charts.page(ROOT),
        "commands": commands.page(),
    }
    for name, text in pages.items():
        yield REFERENCE / f"{name}.md", f"<!-- {DO_NOT_EDIT} -->\n{text}"


def chart_copy(text: str) -> str:
    """A CRD as a template that `helm uninstall` leaves in place."""
    keep = "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n"
    return f"# {DO_NOT_EDIT} from crds/\n" + text.replace("metadata:\n", keep, 1)


# -- pages of kinds ----------------------------------------------------------------------------------


def kind_page(definition: Schema) -> str:
    """Markdown about one kind."""
    spec = definition["spec"]
    names, version = spec["names"], spec["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    scope = "cluster scoped" if spec["scope"] == "Cluster" else "namespaced"
    lines = [
        f"<!-- {DO_NOT_EDIT} -->",
        f"# {names['kind']}",
        "",
        schema["description"],
        "",
        f"`{spec['group']}/{version['name']}`, {scope}, short name `{names['shortNames'][0]}`.",
        "",
    ]
    lines += _rules(schema)
    for part in ("spec", "status"):
        node = schema["properties"][part]
        lines += [f"## {part}", "", node["description"], ""]
        lines += _rules(node)
        lines += ["| Field | Type | Default | Meaning |", "|--|--|--|--|"]
        lines += [_row(path, field, required) for path, field, required in _fields(node)]
        lines.append("")
    lines += ["## Columns of `kubectl get`", "", "| Column | Shows |", "|--|--|"]
    for column in version["additionalPrinterColumns"]:
        wide = " (with `-o wide`)" if column.get("priority") else ""
        lines.append(f"| {column['name'].upper()} | {column['description']}{wide} |")
    return "\n".join(lines) + "\n"


def _rules(node: Schema) -> list[str]:
    rules = node.get("x-kubernetes-validations", ())
    return [*(f"- {rule['message']}" for rule in rules), ""] if rules else []


def _fields(node: Schema, base: str = "") -> Iterator[tuple[str, Schema, bool]]:
    required = set(node.get("required", ()))
    for name, field in node.get("properties", {}).items():
        path = f"{base}.{name}".lstrip(".")
        yield path, field, name in required
        if path.endswith("conditions"):
            continue  # the same everywhere: metav1.Condition
        if field.get("type") == "array":
            yield from _fields(field["items"], f"{path}[]")
        else:
            yield from _fields(field, path)


def _row(path: str, field: Schema, required: bool) -> str:
    default = f"`{_flow(field['default'])}`" if _shown(field.get("default")) else ""
    meaning = _cell(field["description"])
    for rule in field.get("x-kubernetes-validations", ()):
        meaning += f" *{_cell(rule['message'])}*"
    if field.get("type") == "array":
        for rule in field["items"].get("x-kubernetes-validations", ()):
            meaning += f" *Each {_cell(rule['message'])}.*"
    return f"| `{path}`{' (required)' if required else ''} | {_type(field)} | {default} | {meaning} |"


def _shown(default: Any) -> bool:
    return default is not None and default not in ({}, [])


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "enum" in field:
        return " \\| ".join(f"`{choice}`" if choice else "empty" for choice in field["enum"])
    kind = str(field["type"])
    match kind:
        case "array":
            inner = field["items"]
            return f"list of {inner['type']}, at most {field['maxItems']}"
        case "integer" | "number":
            low, high = field.get("minimum"), field.get("maximum")
            return f"{kind}, {low} to {high}" if high is not None else kind
        case "string":
            if field.get("format") == "date-time":
                return "time"
            pattern = f", `{_cell(field['pattern'])}`" if "pattern" in field else ""
            return f"string{pattern}"
    return "map" if "additionalProperties" in field else kind


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).replace("\n...", "").strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
