"""Page: the values of the charts, as their values.yaml explains them."""

from pathlib import Path

import yaml

CHARTS = ("edgefleet-crds", "edgefleet", "edgefleet-site")


def page(root: Path) -> str:
    """Markdown of the page."""
    lines = ["# Values of the charts", ""]
    for name in CHARTS:
        folder = root / "charts" / name
        chart = yaml.safe_load((folder / "Chart.yaml").read_text())
        lines += [
            f"## {name}",
            "",
            f"{chart['description']} Version {chart['version']}, for Kubernetes {chart['kubeVersion']}.",
            "",
        ]
        values = (folder / "values.yaml").read_text()
        if yaml.safe_load(values):
            lines += ["```yaml", values.rstrip(), "```", ""]
    return "\n".join(lines)
