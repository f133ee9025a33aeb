"""Says within a second what stands in the way of `make demo`. Standard library, any Python 3."""

import os
import platform
import sys


def obstacle(environment: "os._Environ[str]") -> str:
    """What to do before the demo can run here, or an empty string."""
    if environment.get("HUB_CONTEXT") or environment.get("CLUSTERS") == "kind":
        return ""
    if platform.system() != "Linux":
        return (
            "the demo's own clusters need Linux. Name clusters of yours instead: HUB_CONTEXT=… SITE_CONTEXTS=…,… make demo"
            " (docs/develop.md), or run it in a Linux machine."
        )
    if os.geteuid() != 0:
        return (
            "the demo starts real clusters in network namespaces of this machine, which only root may do:\n"
            "    sudo make demo        and, to remove everything again:  sudo make demo-down\n"
            "Or name clusters of yours: HUB_CONTEXT=… SITE_CONTEXTS=…,… make demo (docs/develop.md)."
        )
    return ""


if __name__ == "__main__":
    reason = obstacle(os.environ)
    if reason:
        sys.exit("make demo: " + reason)
