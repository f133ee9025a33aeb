"""Two bridges in the root namespace, one namespace with two legs for each cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from localkube import plan
from localkube.places import Cluster, LocalkubeError
from localkube.shell import run, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterator

FORWARD = "EDGEFLEET-FORWARD"
INPUT = "EDGEFLEET-INPUT"


def inside(netns: str, *command: str) -> list[str]:
    """The command, to be run in a namespace."""
    return ["nsenter", f"--net=/run/netns/{netns}", *command]


def own_networks() -> list[str]:
    """Every IPv4 network this machine routes."""
    return plan.networks_of(run(["ip", "-4", "route", "show", "table", "all"]))


def exists(link: str) -> bool:
    """Whether the root namespace has that interface."""
    return Path("/sys/class/net", link).exists()


def bridges_up() -> None:
    """Make both bridges and the rules that keep them apart."""
    for bridge, network in ((plan.WAN_BRIDGE, plan.WAN), (plan.MGMT_BRIDGE, plan.MGMT)):
        if not exists(bridge):
            run(["ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0"])
        run(["ip", "addr", "replace", f"{plan.gateway(network)}/{network.prefixlen}", "dev", bridge])
        run(["ip", "link", "set", bridge, "up"])
    for chain, parent in ((FORWARD, "FORWARD"), (INPUT, "INPUT")):
        succeeds(["iptables", "-w", "-N", chain])
        run(["iptables", "-w", "-F", chain])
        for rule in _rules(chain):
            run(["iptables", "-w", "-A", chain, *rule])
        if not succeeds(["iptables", "-w", "-C", parent, "-j", chain]):
            run(["iptables", "-w", "-I", parent, "-j", chain])


def _rules(chain: str) -> Iterator[list[str]]:
    legs = ((plan.WAN_BRIDGE, plan.WAN), (plan.MGMT_BRIDGE, plan.MGMT))
    if chain == INPUT:
        for bridge, network in legs:
            yield ["-i", bridge, "-d", plan.gateway(network), "-j", "ACCEPT"]
            # This machine would answer for any of its addresses on any leg; a cut has to cut.
            yield [
                "-i",
                bridge,
                "-m",
                "addrtype",
                "--dst-type",
                "LOCAL",
                "-m",
                "conntrack",
                "--ctstate",
                "NEW",
                "-j",
                "DROP",
            ]
        return
    for bridge, _ in legs:
        # Where bridged frames pass iptables (Docker switches that on), let them.
        yield ["-i", bridge, "-o", bridge, "-j", "ACCEPT"]
    for bridge, _ in legs:
        yield ["-i", bridge, "-j", "DROP"]
        yield ["-o", bridge, "-j", "DROP"]


def bridges_down() -> None:
    """Take back what `bridges_up` made."""
    for chain, parent in ((FORWARD, "FORWARD"), (INPUT, "INPUT")):
        while succeeds(["iptables", "-w", "-D", parent, "-j", chain]):
            pass
        succeeds(["iptables", "-w", "-F", chain])
        succeeds(["iptables", "-w", "-X", chain])
    for bridge in (plan.WAN_BRIDGE, plan.MGMT_BRIDGE):
        if exists(bridge):
            run(["ip", "link", "del", bridge])


def namespace_up(cluster: Cluster) -> None:
    """Make the cluster's namespace with both legs. Each step looks first, so it can be run again."""
    netns = cluster.netns or ""
    at = plan.addresses(cluster.index)
    if not Path("/run/netns", netns).exists():
        run(["ip", "netns", "add", netns])
    run(inside(netns, "ip", "link", "set", "lo", "up"))
    legs = (
        ("wan0", at.wan_veth, plan.WAN_BRIDGE, f"{at.wan_ip}/{plan.WAN.prefixlen}"),
        ("mgmt0", at.mgmt_veth, plan.MGMT_BRIDGE, f"{at.mgmt_ip}/{plan.MGMT.prefixlen}"),
    )
    for inner, outer, bridge, address in legs:
        if not succeeds(inside(netns, "ip", "link", "show", inner)):
            if exists(outer):
                run(["ip", "link", "del", outer])
            run(["ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", netns])
        run(["ip", "link", "set", outer, "master", bridge])
        run(["ip", "link", "set", outer, "up"])
        run(inside(netns, "ip", "addr", "replace", address, "dev", inner))
        run(inside(netns, "ip", "link", "set", inner, "up"))
    # Clusters see each other over the wan only: what is cut there has no way round.
    run(["bridge", "link", "set", "dev", at.mgmt_veth, "isolated", "on"])
    run(inside(netns, "ip", "route", "replace", "default", "via", plan.gateway(plan.WAN), "dev", "wan0"))
    settings = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter"
    run(inside(netns, "sh", "-c", settings))
    masquerade = ["POSTROUTING", "-s", cluster.pods, "-o", "wan0", "-j", "MASQUERADE"]
    if not succeeds(inside(netns, "iptables", "-w", "-t", "nat", "-C", *masquerade)):
        run(inside(netns, "iptables", "-w", "-t", "nat", "-A", *masquerade))


def namespace_down(netns: str, index: int) -> None:
    """Remove the namespace; its ends of the veths go with it, the others on their own account."""
    if Path("/run/netns", netns).exists():
        run(["ip", "netns", "del", netns])
    at = plan.addresses(index)
    for link in (at.wan_veth, at.mgmt_veth):
        if exists(link):
            succeeds(["ip", "link", "del", link])


def _legs_of(cluster: Cluster) -> plan.Addresses:
    if not cluster.full:
        raise LocalkubeError(f"'{cluster.name}' is API-only and has no wan leg: start it without --api-only")
    at = plan.addresses(cluster.index)
    if not exists(at.wan_veth):
        raise LocalkubeError(
            f"'{cluster.name}' does not run: start it with `python3 localkube up {cluster.name}`"
        )
    return at


def cut(cluster: Cluster) -> None:
    """Pull the plug of the wan leg; packets vanish, as on a dead line."""
    run(["ip", "link", "set", _legs_of(cluster).wan_veth, "down"])


def heal(cluster: Cluster) -> None:
    """Put the plug back."""
    run(["ip", "link", "set", _legs_of(cluster).wan_veth, "up"])


def is_cut(cluster: Cluster) -> bool:
    """Whether the wan leg is unplugged."""
    link = Path("/sys/class/net", plan.addresses(cluster.index).wan_veth, "flags")
    return link.exists() and not int(link.read_text(), 16) & 1


def shape(cluster: Cluster, rate: str) -> None:
    """Make the wan leg slow, towards the cluster and away from it."""
    outer = _legs_of(cluster).wan_veth
    bits = plan.rate_in_bits(rate)
    for prefix, link in (
        ([], outer),
        (
            inside(
                cluster.netns or "",
            ),
            "wan0",
        ),
    ):
        if bits is None:
            succeeds([*prefix, "tc", "qdisc", "del", "dev", link, "root"])
            continue
        bucket = ["rate", f"{bits}bit", "burst", str(plan.burst_bytes(bits)), "latency", "300ms"]
        run([*prefix, "tc", "qdisc", "replace", "dev", link, "root", "tbf", *bucket])
