"""Hosts that `rollout.analysis` may query: the installation names them.

A user who names another one must act before anything is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from collections.abc import Collection

    from springtide_operator.lifecycle.state.observation import Observation

DEFAULT_PORTS = {"http": 80, "https": 443}


def host_and_port(address: str) -> tuple[str, int]:
    """Split an address; the port is that of the scheme where it names none."""
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]


def is_allowed(address: str, hosts: Collection[str]) -> bool:
    """Whether an address is of an allowed host: `host:port`, or `host` for the default port."""
    host, port = host_and_port(address)
    default = DEFAULT_PORTS[urlsplit(address).scheme]
    return f"{host}:{port}" in hosts or (port == default and host in hosts)


def host_not_allowed(seen: Observation) -> Waiting | None:
    """Why the metrics of an update will have no numbers."""
    analysis = seen.update.spec.rollout.analysis
    if analysis is None or is_allowed(analysis.prometheus.address, seen.defaults.prometheus_hosts):
        return None
    host, port = host_and_port(analysis.prometheus.address)
    allowed = ", ".join(sorted(seen.defaults.prometheus_hosts)) or "none"
    message = (
        f"spec.rollout.analysis.prometheus.address: host {host}:{port} is not allowed, so the "
        "metrics would have no numbers; change it, or add the host to operator.prometheusHosts of "
        f"the chart; allowed now: {allowed}"
    )
    return Waiting("HostNotAllowed", message[:1024], held=True)
