"""A whole Kubernetes with one node, in a network namespace of this machine.

`up` starts what is not running, `down` stops everything and keeps the data, `purge` deletes the
data too. Images come from a registry inside the namespace.
"""

import itertools
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from local_cluster import (
    certificates,
    images,
    leftovers,
    machine_settings,
    network,
    node_config,
    node_images,
    processes,
)
from local_cluster.control_plane import ControlPlane, KubectlError
from local_cluster.images import ProjectImage
from local_cluster.places import CLUSTERS, IMAGE_SLOTS, alone, program
from local_cluster.processes import NotReadyError

DEFAULT_NAME = "local"
CLIENTS = ("admin", "controller-manager", "scheduler", "proxy", "kubelet", "front-proxy")
DAEMONS = (
    "etcd",
    "registry",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)


class Node:
    """The cluster `name`: one node of the same name everywhere, `node`."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        self.name = name
        self.home = CLUSTERS / name
        self.cgroup = f"/springtide-{name}"

    @property
    def _lock(self) -> Path:
        return CLUSTERS / f"{self.name}.lock"

    @property
    def image_slot(self) -> Path:
        """Where containerd keeps its images."""
        return Path((self.home / "image-slot").read_text())

    @property
    def network(self) -> network.Network:
        return network.choose(self.name, self.home / "network")

    @property
    def plane(self) -> ControlPlane:
        pki, kubelet = self.home / "pki", self.home / "pki/admin"
        return ControlPlane(
            home=self.home,
            name=f"springtide-{self.name}",
            address=self.network.node_address,
            enter=self.network.enter,
            flags=(
                f"--kubelet-client-certificate={kubelet}.crt",
                f"--kubelet-client-key={kubelet}.key",
                f"--kubelet-certificate-authority={pki}/ca.crt",
                "--kubelet-preferred-address-types=InternalIP",
                f"--requestheader-client-ca-file={pki}/ca.crt",
                "--requestheader-allowed-names=front-proxy",
                f"--proxy-client-cert-file={pki}/front-proxy.crt",
                f"--proxy-client-key-file={pki}/front-proxy.key",
            ),
        )

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    @property
    def storage_dir(self) -> Path:
        """The folder behind the PersistentVolume; a pod of any user id may write to it."""
        return self.home / "storage"

    def is_up(self) -> bool:
        """Whether every process of the cluster runs and the API server answers."""
        alive = all(processes.running(self.home, name) for name in DAEMONS)
        return alive and self.kubeconfig.exists() and self.plane.is_ready()

    def up(self) -> None:
        """Start the cluster and return when its node is ready."""
        pause = images.ensure_pause()
        with alone(self._lock):
            if self.is_up():
                return
            self._take_down()
            self._start()
            self.push(pause)

    def down(self) -> None:
        """End all of it; objects, images and volumes stay for the next `up`."""
        if self.home.exists():
            with alone(self._lock):
                self._take_down()

    def purge(self) -> None:
        """End all of it and remove its data."""
        self.down()
        shutil.rmtree(self.home, ignore_errors=True)

    def traces(self) -> list[str]:
        """What there still is of the cluster on this machine, apart from its data."""
        return leftovers.traces(self.home, self.cgroup) + self.network.traces()

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        """Run kubectl as the administrator and return what it printed."""
        return self.plane.kubectl(*arguments, input=input)

    def push(self, image: str) -> str:
        """Push an image of the build store to the cluster's registry and return its digest."""
        return node_images.push(self, image)

    def load(self, *project_images: ProjectImage) -> list[str]:
        """Build the images whose sources changed and load them; return their names by digest."""
        return [self._load(images.ensure(image)) for image in project_images]

    def in_namespace(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside the cluster's network."""
        return [*self.network.enter, *argv]

    def _load(self, reference: str) -> str:
        pinned = f"{reference.rpartition(':')[0]}@{self.push(reference)}"
        node_images.pull(self, pinned)
        return pinned

    def _take_down(self) -> None:
        leftovers.remove(self.home, self.cgroup)
        self.network.remove()
        if not any(processes.running(CLUSTERS / name, "kubelet") for name in known()):
            machine_settings.restore()

    def _start(self) -> None:
        self.network.create()
        leftovers.make_cgroup(self.cgroup)
        machine_settings.remember()
        plane = self.plane
        plane.prepare(CLIENTS)
        plane.start_etcd()
        plane.start_api_server()
        with alone(IMAGE_SLOTS / "lock"):
            self._configure(self._take_image_slot())
            self._daemon("containerd", "containerd", f"--config={self.home}/containerd.toml")
        self._daemon("registry", "docker-registry", "serve", f"{self.home}/registry.json")
        plane.wait_ready()
        self._start_node()
        self._wait_for_node()
        self._make_volume()

    def _take_image_slot(self) -> Path:
        """The first image store that no running cluster uses.

        Clusters that take turns share one, and so need to pull the large images only once.
        """
        for number in itertools.count():
            slot = IMAGE_SLOTS / str(number)
            owner = slot / "cluster"
            if not owner.exists() or not processes.running(
                CLUSTERS / owner.read_text(), "containerd"
            ):
                break
        slot.mkdir(exist_ok=True)
        owner.write_text(self.name)
        (self.home / "image-slot").write_text(str(slot))
        return slot

    def _configure(self, image_slot: Path) -> None:
        plane = self.plane
        for client in ("controller-manager", "scheduler", "proxy", "kubelet"):
            config = certificates.kubeconfig(plane.pki, client, url=plane.url, cluster=plane.name)
            (self.home / f"{client}.kubeconfig").write_text(config)
        node_config.write(
            self.home,
            name=plane.name,
            address=plane.address,
            cgroup=self.cgroup,
            registry=images.REGISTRY_STORAGE,
            images=image_slot,
        )

    def _start_node(self) -> None:
        home, pki = self.home, self.plane.pki
        self._daemon(
            "kube-controller-manager",
            program("kube-controller-manager"),
            f"--kubeconfig={home}/controller-manager.kubeconfig",
            "--use-service-account-credentials",
            "--leader-elect=false",
            f"--service-account-private-key-file={pki}/sa.key",
            f"--root-ca-file={pki}/ca.crt",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
            f"--flex-volume-plugin-dir={home}/kubelet/plugins",
        )
        self._daemon(
            "kube-scheduler",
            program("kube-scheduler"),
            f"--kubeconfig={home}/scheduler.kubeconfig",
            "--leader-elect=false",
        )
        self._daemon(
            "kubelet",
            program("kubelet"),
            f"--config={home}/kubelet.json",
            f"--kubeconfig={home}/kubelet.kubeconfig",
            f"--root-dir={home}/kubelet",
            f"--cert-dir={pki}/kubelet",
            "--hostname-override=node",
            f"--node-ip={self.plane.address}",
        )
        self._daemon("kube-proxy", program("kube-proxy"), f"--config={home}/proxy.json")
        self._daemon("coredns", program("coredns"), "-conf", f"{home}/Corefile")

    def _daemon(self, name: str, *argv: str) -> None:
        self.plane.daemon(name, argv).start()

    def _wait_for_node(self) -> None:
        def ready() -> bool:
            try:
                self.kubectl("wait", "--for=condition=Ready", "node/node", "--timeout=1s")
                # Without it the first pods of a namespace are refused.
                self.kubectl("get", "serviceaccount", "default")
            except KubectlError:
                return False
            return True

        if not processes.waited(ready, seconds=90):
            log = self.home / "log/kubelet.log"
            raise NotReadyError(f"the node is not ready:\n{processes.last_lines(log, 10)}")

    def _make_volume(self) -> None:
        self.storage_dir.mkdir(exist_ok=True)
        self.storage_dir.chmod(0o777)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "local"},
            "spec": {
                "capacity": {"storage": "100Gi"},
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "local",
                "hostPath": {"path": str(self.storage_dir)},
            },
        }
        self.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(volume))


def known() -> list[str]:
    """The names of all clusters that have data on this machine."""
    return sorted(path.name for path in CLUSTERS.glob("*/") if path.is_dir())


def from_environment() -> Node:
    """The cluster that $SPRINGTIDE_CLUSTER names, else the default one."""
    return Node(os.environ.get("SPRINGTIDE_CLUSTER") or DEFAULT_NAME)
