"""`edgefleet-agent` as it is, but for where it finds pods: endpoints may not be on loopback, and no other network is there.

Under `support/mortal.py` it dies only at points that SPARED (a regular expression) does not match.
"""

import os
import re
import sys

from edgefleet.agent import main as agent
from edgefleet.agent import pods

POD_NETWORK = "10.255.255."
_REAL = pods.address


def where_pods_really_are(ip: str) -> str:
    """The loopback address that stands for a pod's."""
    return ip.replace(POD_NETWORK, "127.0.1.")


def main() -> None:
    """Run the agent."""
    pods.address = lambda ip, port: _REAL(where_pods_really_are(ip), port)
    _spare(os.environ.get("SPARED", ""))
    agent.main()


def _spare(pattern: str) -> None:
    mortal = sys.modules["__main__"]
    die = getattr(mortal, "_die_once", None)
    if pattern and die is not None:
        mortal._die_once = lambda point: None if re.search(pattern, point) else die(point)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
