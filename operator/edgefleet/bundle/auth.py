"""How a registry wants to know who asks: Basic, or a token from the server its challenge names."""

import base64
import re
from dataclasses import dataclass

_PAIR = re.compile(r'([a-zA-Z]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A WWW-Authenticate header."""

    scheme: str
    """`basic`, `bearer` or what else it says, in lower case."""
    realm: str = ""
    """For bearer: address of the token server."""
    service: str = ""
    scope: str = ""


def parse_challenge(header: str) -> Challenge:
    """Read a WWW-Authenticate header; what cannot be read is empty."""
    scheme, _, rest = header.strip().partition(" ")
    found = {name.lower(): value for name, value in _PAIR.findall(rest)}
    return Challenge(scheme.lower(), found.get("realm", ""), found.get("service", ""), found.get("scope", ""))


def basic(user: str, password: str) -> str:
    """Return the Authorization header of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
