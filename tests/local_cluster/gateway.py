"""Traefik as the gateway of a cluster: a process in its network that follows HTTPRoutes.

Its kinds are those of the Gateway API's standard channel; the set-up takes them from the module
that Traefik is built with.
"""

import json
from dataclasses import dataclass
from typing import Any

from local_cluster import processes
from local_cluster.node import Node
from local_cluster.places import manifests, program
from local_cluster.processes import Daemon

NAME = "traefik"
CLASS = "traefik"
PORT = 8000
"""A Gateway of the class listens on this port, or not at all."""


@dataclass(frozen=True)
class Traefik:
    """The gateway of `cluster`, reached from this machine at `address`:`PORT`."""

    cluster: Node

    @property
    def address(self) -> str:
        return self.cluster.network.node_address

    def start(self) -> None:
        """Install the kinds and start the process; return when it has accepted its class."""
        kubectl = self.cluster.kubectl
        kubectl("apply", "--server-side", "-f", str(manifests(NAME)))
        self.cluster.plane.wait_for_crds()
        kubectl("apply", "--server-side", "-f", "-", input=json.dumps(_class()))
        self._daemon().start()
        kubectl("wait", "--for=condition=Accepted", f"gatewayclass/{CLASS}", "--timeout=60s")

    def stop(self) -> None:
        """End the process as a crash would; the kinds and their objects stay."""
        processes.stop(self.cluster.home, [NAME])

    def _daemon(self) -> Daemon:
        argv = [
            program(NAME),
            f"--entrypoints.web.address=:{PORT}",
            "--providers.kubernetesgateway=true",
            f"--providers.kubernetesgateway.statusaddress.ip={self.address}",
            # By default a changed weight waits up to 2 s.
            "--providers.providersthrottleduration=100ms",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=WARN",
        ]
        config = f"KUBECONFIG={self.cluster.kubeconfig}"
        return Daemon(NAME, argv, self.cluster.home, (*self.cluster.network.enter, "env", config))


def _class() -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": CLASS},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }
