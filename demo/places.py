"""Which clusters the demo runs on: its own, kind's, or the user's."""

from collections.abc import Callable, Mapping

from demo import kind, local, named
from demo.fleet import Fleet


def find(environment: Mapping[str, str], say: Callable[[str], None]) -> Fleet:
    """The fleet that the environment asks for, up and empty or as the last demo left it. Raises CommandError."""
    if environment.get("HUB_CONTEXT"):
        return named.find(environment)
    if environment.get("CLUSTERS") == "kind":
        return kind.up(say)
    return local.up(say)
