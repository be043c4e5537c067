"""An API server without nodes, for tests of everything that needs no pod.

It listens on free ports of the loopback address, so any number of them run side by side. Without a
controller manager nothing is garbage-collected, no namespace is deleted and no pod is created for a
Job; a test does these parts itself. RBAC is on; the kubeconfig is the administrator's.
"""

import itertools
import os
import shutil
from pathlib import Path

from local_cluster import processes
from local_cluster.control_plane import ControlPlane
from local_cluster.places import API_SERVERS
from local_cluster.ports import free_ports
from local_cluster.processes import NotReadyError

ATTEMPTS = 3

_numbers = itertools.count(1)


class ApiServer:
    """etcd and kube-apiserver on loopback; `stop`, `kill` and `start` keep data and port."""

    def __init__(self) -> None:
        sweep()
        self._name = f"api-{os.getpid()}-{next(_numbers)}"
        self.plane = _plane(self._name)

    @property
    def url(self) -> str:
        return self.plane.url

    @property
    def kubeconfig(self) -> Path:
        return self.plane.kubeconfig

    def open(self) -> None:
        """Start for the first time, on other ports if another process took one meanwhile."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.start()
                break
            except NotReadyError:
                if attempt == ATTEMPTS:
                    raise
                self.close()
                self.plane = _plane(self._name)

    def start(self) -> None:
        """Start what is not running and wait until the API server is ready."""
        self.plane.home.mkdir(parents=True, exist_ok=True)
        (self.plane.home / "owner").write_text(str(os.getpid()))
        self.plane.prepare(("admin",))
        self.plane.start_etcd()
        self.plane.start_api_server()
        self.plane.wait_ready()

    def stop(self) -> None:
        """End kube-apiserver in order; etcd runs on. Clients see refused connections."""
        processes.stop(self.plane.home, ["kube-apiserver"], grace=5)

    def kill(self) -> None:
        """End kube-apiserver as a crash would: connections break at once."""
        processes.stop(self.plane.home, ["kube-apiserver"])

    def restart(self) -> None:
        """Stop and start again: the same address, the same data."""
        self.stop()
        self.start()

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        """Run kubectl as the administrator and return what it printed."""
        return self.plane.kubectl(*arguments, input=input)

    def create_namespace(self, name: str) -> None:
        """Create a namespace, as many tests do."""
        self.plane.create_namespace(name)

    def wait_for_crds(self, seconds: float = 60) -> None:
        """Wait until every CustomResourceDefinition is served."""
        self.plane.wait_for_crds(seconds)

    def close(self) -> None:
        """End both processes and remove all data."""
        _remove(self.plane.home)


def sweep() -> None:
    """Remove the servers of processes that no longer run."""
    for home in API_SERVERS.glob("api-*"):
        try:
            owner = int((home / "owner").read_text())
        except (OSError, ValueError):
            continue  # another process creates or removes it right now
        if not processes.is_running(owner):
            _remove(home)


def _plane(name: str) -> ControlPlane:
    port, etcd_port, etcd_peer_port = free_ports(3)
    return ControlPlane(
        home=API_SERVERS / name,
        name=name,
        address="127.0.0.1",
        port=port,
        etcd_port=etcd_port,
        etcd_peer_port=etcd_peer_port,
        flags=(
            "--bind-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            # No controller creates the default service accounts that pods would need.
            "--disable-admission-plugins=ServiceAccount",
        ),
    )


def _remove(home: Path) -> None:
    processes.stop(home, processes.names(home))
    shutil.rmtree(home, ignore_errors=True)
