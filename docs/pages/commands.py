"""Page: the help of every command of `edgefleet`."""

import click
from edgefleet.cli.main import cli


def page() -> str:
    """Markdown of the page."""
    lines = [
        "# Commands",
        "",
        "`edgefleet` is also a plugin of kubectl: `kubectl edgefleet …` does the same.",
        "",
    ]
    _describe(cli, _context(cli, "edgefleet", None), lines)
    return "\n".join(lines)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    """As a call makes it, settings of the command included: click remembers the help option of the first context."""
    wide = {"terminal_width": 110, "max_content_width": 110}
    return click.Context(command, parent, info_name=name, **{**command.context_settings, **wide})


def _describe(command: click.Command, context: click.Context, lines: list[str]) -> None:
    lines += [f"## {context.command_path}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            try:
                inner = command.get_command(context, name)
            except click.ClickException:
                continue
            if inner is not None:
                _describe(inner, _context(inner, name, context), lines)
