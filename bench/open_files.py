"""How many files the processes of a bench may have open; each connection is one at both its ends."""

import resource
import sys
from typing import Final

A_SITE: Final = 3
"""Connections a site has at most: its watch, and two for requests of which one is given up after 90 s."""
BESIDES: Final = 4096


def needed(sites: int) -> int:
    """What one process may need that has all of so many sites at its other end."""
    return A_SITE * sites + BESIDES


def make_room(sites: int) -> int:
    """Raise the limit of this process and its children to what is needed; as root the hard limit too. Returns it.

    Exits with advice when the machine allows fewer.
    """
    wanted = needed(sites)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    enough = hard == resource.RLIM_INFINITY or hard >= wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard if enough else wanted))
    except (ValueError, OSError):
        sys.exit(
            f"{sites} sites need {wanted} open files in a process, and the hard limit here is {hard}: run as root, or"
            f" raise it first (`ulimit -Hn {wanted}` as root, or `nofile` in /etc/security/limits.conf)"
        )
    return wanted
