"""The network namespace that a cluster lives in: every port, bridge and rule of it is in there.

So clusters do not collide, with each other or with anything else on the machine, and removing the
namespace removes all traces. It has no route to the outside.
"""

import hashlib
import ipaddress
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local_cluster.control_plane import SERVICES

# One /30 of this for each cluster: the host's end, the node's end.
RANGE = ipaddress.ip_network("10.200.0.0/16")


@dataclass(frozen=True)
class Network:
    """The namespace of the cluster `name` and the pair of interfaces that leads into it."""

    name: str
    host_address: str
    node_address: str

    @property
    def namespace(self) -> str:
        return f"springtide-{self.name}"

    @property
    def link(self) -> str:
        """The host's end; a link's name has at most 15 characters, so it cannot hold ours."""
        return f"st{_digest(self.name):x}"[:13] + "-h"

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command; `ip netns exec` would hide /sys/fs/cgroup as well."""
        return ("nsenter", f"--net=/run/netns/{self.namespace}")

    def create(self) -> None:
        """Make namespace, interfaces and routes, whatever is left of an earlier one."""
        if self._is_complete():
            return
        self.remove()
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self.link, "type", "veth", "peer", "eth0", "netns", self.namespace)
        _ip("addr", "add", f"{self.host_address}/30", "dev", self.link)
        _ip("link", "set", self.link, "up")
        inside = ("-n", self.namespace)
        _ip(*inside, "addr", "add", f"{self.node_address}/30", "dev", "eth0")
        _ip(*inside, "link", "set", "eth0", "up")
        _ip(*inside, "link", "set", "lo", "up")
        # A packet for a Service is routed before kube-proxy's rules rewrite it.
        _ip(*inside, "route", "add", SERVICES, "via", self.host_address)
        _run(*self.enter, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def remove(self) -> None:
        """Remove namespace and interfaces; what is not there is removed already."""
        _ip("link", "del", self.link, check=False)
        _ip("netns", "del", self.namespace, check=False)
        # After a crash the name may be an empty file that is no mount any more.
        Path(f"/run/netns/{self.namespace}").unlink(missing_ok=True)

    def traces(self) -> list[str]:
        """What there still is of it, one line each."""
        places = (Path(f"/run/netns/{self.namespace}"), Path(f"/sys/class/net/{self.link}"))
        return [f"network {place}" for place in places if place.exists()]

    def _is_complete(self) -> bool:
        outside = json.loads(_ip("-json", "addr", "show", self.link, check=False) or "[]")
        inside = _ip("-n", self.namespace, "route", "show", SERVICES, check=False)
        addresses = [info["local"] for link in outside for info in link["addr_info"]]
        return self.host_address in addresses and self.host_address in inside


def choose(name: str, remembered: Path) -> Network:
    """The network of the cluster `name`: the /30 of its name, or the next that is free.

    The choice is kept in the file `remembered`, because certificates hold the address.
    """
    if remembered.exists():
        return _network(name, int(remembered.read_text()))
    used = _used_addresses()
    count = RANGE.num_addresses // 4
    first = _digest(name) % count
    for step in range(count):
        number = (first + step) % count
        network = _network(name, number)
        if network.host_address not in used:
            remembered.parent.mkdir(parents=True, exist_ok=True)
            remembered.write_text(str(number))
            return network
    raise RuntimeError(f"all of {RANGE} is in use on this machine")


def _network(name: str, number: int) -> Network:
    first = RANGE.network_address + 4 * number
    return Network(name, str(first + 1), str(first + 2))


def _used_addresses() -> set[str]:
    links = json.loads(_ip("-json", "addr"))
    return {info.get("local", "") for link in links for info in link["addr_info"]}


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def _ip(*arguments: str, check: bool = True) -> str:
    return _run("ip", *arguments, check=check)


def _run(*argv: str, check: bool = True) -> str:
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and ran.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {ran.stderr.strip()}")
    return ran.stdout
