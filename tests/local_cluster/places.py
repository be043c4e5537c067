"""The paths of the local cluster's programs and state; no other module builds a path.

Everything is in the user's cache folder and can be deleted at any time.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSIONS = {
    "kubernetes": "1.36.3",
    "etcd": "3.6.16",
    "coredns": "1.14.7",
    "helm": "4.3.1",
    "traefik": "3.6.12",
    "versitygw": "1.8.0",
    "kueue": "0.14.0",
    "jobset": "0.10.1",
    "prometheus": "debian",
}
PROGRAMS = {
    "kubernetes": (
        "kube-apiserver",
        "kubectl",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
    ),
    "etcd": ("etcd",),
    "coredns": ("coredns",),
    "helm": ("helm",),
    "traefik": ("traefik",),
    "versitygw": ("versitygw",),
    "kueue": ("kueue",),
    "jobset": ("jobset",),
    "prometheus": ("prometheus",),
}

CLIENTS = ("kubectl", "helm")

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "springtide"
VENV = CACHE / "venv"
CLUSTERS = CACHE / "clusters"
API_SERVERS = CACHE / "apiservers"
IMAGES = CACHE / "images"
IMAGE_SLOTS = CACHE / "containerd"


def tool_folder(tool: str) -> Path:
    """The folder of one tool's programs; the version in its name makes an upgrade a new build."""
    return CACHE / "bin" / f"{tool}-{VERSIONS[tool]}"


def manifests(tool: str) -> Path:
    """The folder of the kinds that a tool needs in a cluster."""
    return tool_folder(tool) / "manifests"


def program(name: str) -> str:
    """The path of a program that `make setup` built, for example `kubectl`.

    For another cluster an installed kubectl or helm will do.

    Raises:
        FileNotFoundError: it is not built yet.
    """
    tool = next(tool for tool, names in PROGRAMS.items() if name in names)
    path = tool_folder(tool) / name
    if path.exists():
        return str(path)
    if name in CLIENTS and (installed := shutil.which(name)):
        return installed
    raise FileNotFoundError(f"{path} does not exist; run `make setup` to build {name}")


def uv_cache() -> Path:
    """uv's cache, from which both the virtual environment and the images are built."""
    return Path(os.environ.get("UV_CACHE_DIR") or CACHE.parent / "uv")


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the lock file during the block; others wait. The lock ends with its process."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
