"""The arithmetic of a cluster: names, addresses, rates. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# The benchmarking range of RFC 2544: no real network uses it.
WAN = IPv4Network("198.18.0.0/24")
MGMT = IPv4Network("198.18.1.0/24")
WAN_BRIDGE = "efwan"
MGMT_BRIDGE = "efmgmt"
FIRST_HOST = 10
MAX_CLUSTERS = 100

# K3s' own ranges first; the others for machines that already route those.
CANDIDATES = (
    ("10.42.0.0/16", "10.43.0.0/16"),
    ("10.142.0.0/16", "10.143.0.0/16"),
    ("172.28.0.0/16", "172.29.0.0/16"),
    ("192.168.240.0/21", "192.168.248.0/21"),
)
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(k|m|g)?bit")


class PlanError(ValueError):
    """What was asked for cannot be planned; the text says what to do."""


@dataclass(frozen=True)
class Addresses:
    """Where a full cluster lives on its two legs."""

    wan_ip: str
    mgmt_ip: str
    wan_veth: str
    mgmt_veth: str


@dataclass(frozen=True)
class Ranges:
    """The two networks inside a cluster."""

    pods: str
    services: str

    @property
    def dns_ip(self) -> str:
        """The tenth address, where every Kubernetes keeps its DNS."""
        return str(IPv4Network(self.services)[10])

    @property
    def api_ip(self) -> str:
        """The first address: `kubernetes.default.svc`."""
        return str(IPv4Network(self.services)[1])


def check_name(name: str) -> str:
    """A name that can be a node, a folder and part of a namespace's name."""
    if not _NAME.fullmatch(name):
        raise PlanError(f"'{name}' cannot name a cluster: use up to 30 of a-z, 0-9 and '-', a letter first")
    return name


def addresses(index: int) -> Addresses:
    """Addresses and interface names of the index-th cluster of this machine."""
    if not 0 <= index < MAX_CLUSTERS:
        raise PlanError(f"at most {MAX_CLUSTERS} clusters fit; end some with `python3 localkube down NAME`")
    return Addresses(
        wan_ip=str(WAN[FIRST_HOST + index]),
        mgmt_ip=str(MGMT[FIRST_HOST + index]),
        wan_veth=f"efw{index}",
        mgmt_veth=f"efm{index}",
    )


def gateway(network: IPv4Network) -> str:
    """The address of this machine on one of the two bridges."""
    return str(network[1])


def ranges(taken: Iterable[str]) -> Ranges:
    """The first pair of pod and service networks that none of the machine's own networks touches."""
    used = [network for each in taken if isinstance(network := ip_network(each, strict=False), IPv4Network)]
    for pods, services in CANDIDATES:
        wanted = (IPv4Network(pods), IPv4Network(services))
        if not any(network.overlaps(each) for network in used for each in wanted):
            return Ranges(pods, services)
    raise PlanError(
        "this machine routes all of " + ", ".join(p for p, _ in CANDIDATES) + ": free one of them"
    )


def networks_of(routes: str) -> list[str]:
    """Destinations in the output of `ip -4 route show table all`, default route and own bridges left out."""
    found = []
    for line in routes.splitlines():
        words = line.split()
        if not words or f"dev {WAN_BRIDGE}" in line or f"dev {MGMT_BRIDGE}" in line:
            continue
        target = words[1] if words[0] in ("local", "broadcast", "unreachable", "blackhole") else words[0]
        try:
            IPv4Network(target, strict=False)
        except ValueError:
            continue
        found.append(target)
    return found


def clash_with_legs(taken: Iterable[str]) -> str | None:
    """The machine's own network that overlaps wan or mgmt, if there is one."""
    for each in taken:
        network = IPv4Network(each, strict=False)
        if network.prefixlen > 0 and (network.overlaps(WAN) or network.overlaps(MGMT)):
            return each
    return None


def rate_in_bits(text: str) -> int | None:
    """`2mbit` → 2000000; `off` → None."""
    if text == "off":
        return None
    match = _RATE.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise PlanError(f"'{text}' is no rate: write it like 512kbit, 2mbit or off")
    factor = {None: 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}[match[2]]
    return max(8_000, int(float(match[1]) * factor))


def burst_bytes(bits: int) -> int:
    """A token bucket needs room for 10 ms of its rate and for a few full packets."""
    return max(16_000, bits // 800)


def is_host_ip(text: str) -> bool:
    """Whether text is an IPv4 address."""
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
