"""Page: what operator, agent and sites may do, read from the charts' roles and the comments in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TEMPLATES = {
    "What the operator may do on the hub": "charts/edgefleet/templates/operator-rbac.yaml",
    "What joining needs on the hub": "charts/edgefleet/templates/joining.yaml",
    "What a site may do on the hub": "charts/edgefleet/templates/site-role.yaml",
    "What `helm uninstall` of the hub may do": "charts/edgefleet/templates/release-models.yaml",
    "What the agent may do on its site": "charts/edgefleet-site/templates/rbac.yaml",
}
INTRODUCTION = """# Permissions

Read from the roles in the charts. Nothing of edgefleet is a cluster administrator, nothing may read Secrets it does
not name, and the agent writes in two namespaces of its own cluster only.
"""
_ACTIONS = {
    '{{ include "edgefleet-site.joinSecret" . }}': "edgefleet-join",
    "{{ .Values.models.namespace }}": "edgefleet-models",
    "{{ .Release.Namespace }}": "the release's namespace",
}


@dataclass
class _Grant:
    """One rule of a role, and the comment above it."""

    why: str
    lines: list[str] = field(default_factory=list)

    def row(self) -> str:
        rule: dict[str, Any] = yaml.safe_load("\n".join(self.lines))[0]
        groups = [group or "core" for group in rule["apiGroups"]]
        names = rule.get("resourceNames")
        what = ", ".join(f"`{resource}`" for resource in rule["resources"])
        named = " named " + ", ".join(f"`{name}`" for name in names) if names else ""
        return f"| {what} ({', '.join(groups)}){named} | {', '.join(rule['verbs'])} | {self.why} |"


def page(root: Path) -> str:
    """Markdown of the page."""
    lines = [INTRODUCTION]
    for title, path in TEMPLATES.items():
        lines += [f"## {title}", ""]
        template = (root / path).read_text()
        for action, text in _ACTIONS.items():
            template = template.replace(action, text)
        for document in template.split("\n---\n"):
            lines += _role(document)
    return "\n".join(lines) + "\n"


def _role(document: str) -> list[str]:
    kind = re.search(r"^kind: (Role|ClusterRole)$", document, re.MULTILINE)
    if not kind:
        return []
    name = re.search(r"^  name: (\S+)$", document, re.MULTILINE)
    space = re.search(r"^  namespace: (.+)$", document, re.MULTILINE)
    where = f" in {space[1]}" if space else ""
    head = f"{kind[1]} `{name[1] if name else ''}`{where}"
    comment = " ".join(re.findall(r"^# (.+)$", document.partition("apiVersion")[0], re.MULTILINE))
    grants = list(_grants(document.partition("\nrules:\n")[2]))
    return [
        f"{head}. {comment}".strip(),
        "",
        "| On | May | Why |",
        "|--|--|--|",
        *(grant.row() for grant in grants),
        "",
    ]


def _grants(text: str) -> Iterator[_Grant]:
    why, grant, fresh = "", None, False
    for line in text.splitlines():
        if line.startswith("# "):
            why = f"{why} {line[2:]}" if fresh else line[2:]
            fresh = True
            continue
        fresh = False
        if line.startswith("- "):
            if grant:
                yield grant
            grant, why = _Grant(why), ""
        if grant and not line.startswith("{{"):
            grant.lines.append(line)
    if grant:
        yield grant
