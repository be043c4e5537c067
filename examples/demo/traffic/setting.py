"""What a canary and its analysis need of a cluster: a way to split requests, and a Prometheus.

On the local cluster Traefik splits them by weight, and both programs run beside the cluster. On
one of the user's they are split by pods, which needs no gateway, and two variables name the rest.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from demo.kubectl import DemoError
from local_cluster import gateway, monitoring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.example import Example
    from demo.kubectl import Kubectl
    from local_cluster.node import Node

ASK = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)"
LONG = "0.33"
"""Share of the requests that are from customers with a long history."""
PATIENCE = "30"
"""Seconds for an answer: on a busy machine a slow answer is no failure."""
ABSENT = (
    "No canary and no rollback by the analysis on this cluster: they need "
    "PROMETHEUS=http://HOST:PORT, which scrapes the servers as docs/how-to/analysis.md says, and "
    "STORAGE_CLASS=NAME, a class that offers ReadWriteMany. The pin needs neither."
)


@dataclass(frozen=True)
class Gateway:
    """A gateway that follows HTTPRoutes, as pods reach it."""

    class_name: str
    host: str
    port: int


@dataclass(frozen=True)
class Traffic:
    """How requests reach the servers and how they are watched."""

    prometheus: str
    """Address of the Prometheus."""
    steps: tuple[tuple[int, str], ...]
    """Weight in percent and duration of each step of a canary."""
    window: str
    """Time that a query looks back: several scrapes."""
    interval: str
    """Time between two queries."""
    gateway: Gateway | None = None
    """Splits the requests by weights; None: the Service splits them by pods."""
    storage_class: str = ""
    """Class of the claims, which several pods mount; empty: the default one."""

    @property
    def prometheus_host(self) -> str:
        """Return host and port of the Prometheus, as the installation allows them."""
        return urlsplit(self.prometheus).netloc

    @property
    def client(self) -> dict[str, str]:
        """Return the settings of the load generator."""
        through = self.gateway
        to = {"HOST": through.host, "PORT": str(through.port)} if through else {}
        return {"LONG": LONG, "PATIENCE": PATIENCE, **to}

    @property
    def weights(self) -> str:
        """Return the weights of the steps as a text."""
        *first, last = (f"{weight} %" for weight, _ in self.steps)
        return f"{', '.join(first)} and {last}" if first else last


@contextmanager
def local(node: Node) -> Iterator[Traffic]:
    """Start Traefik, which stays, and a Prometheus for the time of the demo."""
    traefik = gateway.Traefik(node)
    traefik.start()
    with monitoring.monitored(node):
        yield Traffic(
            prometheus=monitoring.ADDRESS,
            steps=((10, "15s"), (25, "12s"), (50, "12s")),
            window="15s",
            interval="5s",
            gateway=Gateway(gateway.CLASS, traefik.address, gateway.PORT),
        )


def existing(kubectl: Kubectl) -> Traffic | None:
    """Use what PROMETHEUS and STORAGE_CLASS name in a cluster of the user's; None without them.

    Raises:
        DemoError: only one is named, the address has no port, or there is no such class.
    """
    address, name = (os.environ.get(key, "") for key in ("PROMETHEUS", "STORAGE_CLASS"))
    if not address and not name:
        return None
    if not (address and name):
        raise DemoError("a canary needs both PROMETHEUS and STORAGE_CLASS; name both or none")
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.port:
        raise DemoError(f"PROMETHEUS is {address!r}; write it as http://HOST:PORT")
    if not kubectl.get("storageclass", name):
        raise DemoError(f"there is no StorageClass {name}; STORAGE_CLASS names one for the claims")
    # Beside two pods one canary pod has 33 %, two have 50 %. The documented scrapes are 15 s apart.
    return Traffic(
        prometheus=address,
        steps=((33, "90s"), (50, "90s")),
        window="1m",
        interval="15s",
        storage_class=name,
    )


def check_prometheus(example: Example, traffic: Traffic) -> None:
    """Ask the Prometheus from a pod of the example.

    Raises:
        DemoError: it does not answer.
    """
    try:
        example.python(ASK, f"{traffic.prometheus}/api/v1/query?query=1")
    except DemoError as error:
        address = traffic.prometheus
        raise DemoError(f"pods do not reach the Prometheus {address}: {error}") from None
