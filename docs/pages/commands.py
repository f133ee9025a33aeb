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
    _describe(cli, click.Context(cli, info_name="edgefleet", max_content_width=110), lines)
    return "\n".join(lines)


def _describe(command: click.Command, context: click.Context, lines: list[str]) -> None:
    context.terminal_width = 110
    lines += [f"## {context.command_path}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            try:
                inner = command.get_command(context, name)
            except click.ClickException:
                continue
            if inner is not None:
                _describe(inner, click.Context(inner, info_name=name, parent=context), lines)
