"""The group `edgefleet`. Sub-commands are imported when they are used: `bundle inspect` needs no Kubernetes client,
`status` no ONNX.
"""

import importlib
import sys
from typing import Final, NamedTuple

import click
from typing_extensions import override

import edgefleet
from edgefleet.bundle.errors import BundleError


class Lazy(NamedTuple):
    """Where a sub-command lives."""

    module: str
    attribute: str
    extra: str
    """Extra of the wheel that brings what the module imports; empty: none."""
    help: str


COMMANDS: Final[dict[str, Lazy]] = {
    "keys": Lazy("edgefleet.cli.keys", "keys", "", "Make the keys that sign bundles."),
    "bundle": Lazy("edgefleet.cli.bundle", "bundle", "", "Build, inspect and verify model bundles."),
    "site": Lazy("edgefleet.cli.site", "site", "cli", "Let sites join, and show them."),
    "status": Lazy("edgefleet.cli.status", "status", "cli", "Show models, rollouts and sites."),
    "explain": Lazy("edgefleet.cli.explain", "explain", "cli", "Say why a model or a site is as it is."),
    "plan": Lazy("edgefleet.cli.plan", "plan", "cli", "Say what applying an EdgeModel would do."),
    "dump": Lazy("edgefleet.cli.explain", "dump", "cli", "Print the hub's objects for `explain -f`."),
    "rollout": Lazy(
        "edgefleet.cli.rollout", "rollout", "cli", "Approve, pause, abort, finish or retry a rollout."
    ),
    "release": Lazy(
        "edgefleet.cli.release", "release", "cli", "Let EdgeModels be deleted without an operator."
    ),
}
"""Name of the sub-command → where it lives. The help text is here so that `--help` imports nothing."""


class _Missing(click.ClickException):
    exit_code = 3


class LazyGroup(click.Group):
    """A group that imports a sub-command when it is called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the sub-command."""
        lazy = COMMANDS.get(cmd_name)
        return _load(cmd_name, lazy) if lazy else None

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the sub-commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


def _load(name: str, lazy: Lazy) -> click.Command:
    try:
        module = importlib.import_module(lazy.module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith("edgefleet") or not lazy.extra:
            raise _Missing(
                f"`edgefleet {name}` is not part of this installation ({missing} is missing)"
            ) from error
        raise _Missing(
            f"`edgefleet {name}` needs {missing}: pip install 'edgefleet[{lazy.extra}]'"
        ) from error
    command: click.Command = getattr(module, lazy.attribute)
    return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(edgefleet.__version__, prog_name="edgefleet")
def cli() -> None:
    """Roll quantized models out to fleets of small clusters."""


def main() -> None:
    """Entry point: errors meant for people are one line on standard error, `reason: message`."""
    try:
        outcome = cli.main(prog_name="edgefleet", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit("aborted")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BundleError as error:
        sys.exit(f"{error.reason}: {error}")
    # click hands back the code given to ctx.exit()
    sys.exit(outcome if isinstance(outcome, int) else 0)


if __name__ == "__main__":
    main()
