"""`edgefleet-agent` as it is, but for where it finds pods: endpoints may not be on loopback, and no other network is there."""

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
    agent.main()


if __name__ == "__main__":
    main()
