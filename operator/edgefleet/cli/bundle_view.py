"""How a bundle looks in the terminal."""

import click

from edgefleet.bundle.format import BuildReport, BundleConfig, Measured


def show(config: BundleConfig, digest: str) -> None:
    """Print what a bundle says of itself."""
    click.echo(f"bundle    {digest}")
    click.echo(f"model     {config.name} version {config.version}, created {config.created}")
    for word, tensors in (("input", config.inputs), ("output", config.outputs)):
        for tensor in tensors:
            shape = ", ".join("any" if size == -1 else str(size) for size in tensor.shape)
            click.echo(f"{word:9} {tensor.name}  {tensor.datatype} ({shape})")
    click.echo(f"golden    {config.golden.samples} samples, compared by {config.golden.metric}")
    table(config.report)


def table(report: BuildReport) -> None:
    """Print accuracy, size and time of the float model and of every variant."""
    rows: list[tuple[str, ...]] = [("", "bytes", "accuracy", "agreement", "drop", "ms a run")]
    rows += [_row(item) for item in (report.before, *report.after)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for name, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        click.echo(f"  {name.ljust(widths[0])}  {'  '.join(cells)}")
    click.echo(f"  gate: a drop of {report.max_drop:.2%} at most, measured by {report.measured_by}")


def _row(item: Measured) -> tuple[str, ...]:
    accuracy = "-" if item.accuracy is None else f"{item.accuracy:.2%}"
    return (
        item.variant,
        str(item.bytes),
        accuracy,
        f"{item.agreement:.2%}",
        f"{item.drop:.2%}",
        f"{item.p50_ms:.3f}",
    )
