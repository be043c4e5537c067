"""Removes every process, mount and cgroup of a node, in whatever state it is.

Containers are found by their cgroup, shims by the socket on their command line, mounts by their
path. No daemon has to answer.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from local_cluster import processes

CGROUPS = Path("/sys/fs/cgroup")
CPU_WEIGHTS = {"cpu.shares": "4096", "cpu.weight": "400"}
"""By the file of version 1 or 2: four times the weight of a process outside. All pods share one
group, and by default get as little as one busy process; with much more, the API server and etcd,
which are outside, would wait for pods that train."""
LOG_LINKS = Path("/var/log/containers")


def make_cgroup(cgroup: str) -> None:
    """Make the cgroup below which the kubelet puts all pods, in every hierarchy there is."""
    for hierarchy in _hierarchies():
        folder = hierarchy / cgroup.lstrip("/")
        folder.mkdir(exist_ok=True)
        for name, weight in CPU_WEIGHTS.items():
            if (folder / name).exists():
                (folder / name).write_text(weight)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # In version 1 these start empty, and then nothing may enter.
            if hierarchy.name == "cpuset" and not (folder / setting).read_text().strip():
                (folder / setting).write_text((hierarchy / setting).read_text())


def remove(home: Path, cgroup: str) -> None:
    """End all processes of the node in `home` and undo all its mounts.

    The daemons that start others are stopped first, so that nothing is started again.
    """
    processes.stop(home, processes.names(home))
    shims = _shims(home)
    sockets = _shim_sockets(home)
    processes.end(shims)
    processes.end(_members(cgroup))
    for socket in sockets:
        socket.unlink(missing_ok=True)
    _unmount(home)
    # The kernel gives a cgroup free a moment after its last process has gone.
    processes.waited(lambda: _removed(cgroup), seconds=10)
    _remove_log_links(home)
    shutil.rmtree(home / "run", ignore_errors=True)
    # Sandboxes do not outlive the node, so neither do their addresses.
    shutil.rmtree(home / "cni", ignore_errors=True)


def traces(home: Path, cgroup: str) -> list[str]:
    """What there still is of the node in `home`, one line each; empty after `remove`."""
    pids = [*_members(cgroup), *_shims(home)]
    daemons = [name for name in processes.names(home) if processes.running(home, name)]
    return [
        *(f"process {pid}" for pid in pids),
        *(f"daemon {name}" for name in daemons),
        *(f"mount {place}" for place in _mounts(home)),
        *(f"cgroup {folder}" for folder in _cgroup_folders(cgroup)),
    ]


def _hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _cgroup_folders(cgroup: str) -> list[Path]:
    """All folders of the cgroup, the deepest first."""
    roots = [hierarchy / cgroup.lstrip("/") for hierarchy in _hierarchies()]
    folders = [folder for root in roots if root.exists() for folder in (root, *_below(root))]
    return sorted(folders, key=lambda folder: len(folder.parts), reverse=True)


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_dir())


def _removed(cgroup: str) -> bool:
    for folder in _cgroup_folders(cgroup):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return not _cgroup_folders(cgroup)


def _members(cgroup: str) -> set[int]:
    files = (folder / "cgroup.procs" for folder in _cgroup_folders(cgroup))
    return {int(pid) for file in files if file.exists() for pid in file.read_text().split()}


def _shims(home: Path) -> list[int]:
    socket = f"{home}/run/containerd.sock"
    return [
        pid
        for pid, line in processes.command_lines().items()
        if "containerd-shim" in line[0] and socket in line
    ]


def _shim_sockets(home: Path) -> list[Path]:
    files = (home / "run/containerd").glob("io.containerd.runtime.v2.task/k8s.io/*/address")
    return [Path(file.read_text().removeprefix("unix://")) for file in files]


def _mounts(home: Path) -> list[str]:
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{home}/")]


def _unmount(home: Path) -> None:
    if places := sorted(_mounts(home), reverse=True):
        subprocess.run(["umount", "--lazy", *places], check=False, capture_output=True)


def _remove_log_links(home: Path) -> None:
    for link in LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(home):
            link.unlink()
