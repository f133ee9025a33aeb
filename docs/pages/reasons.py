"""Page: what the reasons in conditions and reports mean."""

from edgefleet.cli import reasons

INTRODUCTION = """# Reasons

Every condition and every report carries a reason, one word for machines; its message is for people.
`edgefleet explain model NAME` and `edgefleet explain site NAME` put both together.
Where nothing is to be done, it is well or moves by itself.
"""
PARTS = {
    "EdgeModel and EdgeRollout": reasons.MODELS,
    "Why a site is not chosen": reasons.PLACEMENT,
    "EdgeSite": reasons.SITES,
    "Joining and the link": reasons.JOINING,
    "Orders on a site (EdgeDeployment)": reasons.ORDERS,
    "Bundles": reasons.BUNDLES,
}


def page() -> str:
    """Markdown of the page."""
    lines = [INTRODUCTION]
    for title, part in PARTS.items():
        lines += [f"## {title}", "", "| Reason | Meaning | What to do |", "|--|--|--|"]
        lines += [
            f"| `{name}` | {_cell(one.meaning)} | {_cell(one.act)} |" for name, one in sorted(part.items())
        ]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
