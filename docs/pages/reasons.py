"""Page: what the reasons in conditions mean."""

import inspect
from pathlib import Path

from edgefleet.bundle import errors

INTRODUCTION = """# Reasons
"""


def page(root: Path) -> str:
    """Markdown of the page."""
    del root
    lines = [
        INTRODUCTION,
        "## Bundles that cannot be used",
        "",
        "| Reason | Tried again by itself | Meaning |",
        "|--|--|--|",
    ]
    for _name, kind in sorted(inspect.getmembers(errors, inspect.isclass)):
        if issubclass(kind, errors.BundleError):
            again = "yes" if kind.environment else "no"
            lines.append(f"| {kind.reason} | {again} | {inspect.getdoc(kind)} |")
    return "\n".join(lines) + "\n"
