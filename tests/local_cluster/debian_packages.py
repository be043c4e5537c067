"""The Debian packages that the local cluster needs; their services are never started."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_cluster.places import CACHE, tool_folder
from local_cluster.steps import SetupError, Step, execute

PACKAGES = (
    "buildah",
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "debootstrap",
    "docker-registry",
    "iproute2",
    "iptables",
    "make",
    "nftables",
    "openssl",
    "procps",
    "python3-venv",
    "runc",
    "socat",
    "util-linux",
)
POLICY = Path("/usr/sbin/policy-rc.d")
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "-q", "-y")


def step() -> Step:
    return Step("Debian packages", _missing_line, _install)


def prometheus() -> Step:
    """Take only the program: the package would add a service, a user and libraries of a page."""
    program = tool_folder("prometheus") / "prometheus"

    def missing() -> str:
        return "" if program.exists() else "unpacks Debian's package"

    return Step("Prometheus", missing, lambda: _unpack("prometheus", program))


def _missing_line() -> str:
    return f"installs {' '.join(missing)}" if (missing := _missing()) else ""


def _missing() -> list[str]:
    if not shutil.which("dpkg-query"):
        names = " ".join(PACKAGES)
        raise SetupError(f"this is not Debian; install the equivalents of these packages: {names}")
    form = "-f=${Package} ${db:Status-Status}\n"
    ran = subprocess.run(
        ["dpkg-query", "-W", form, *PACKAGES], capture_output=True, text=True, check=False
    )
    there = {line.split()[0] for line in ran.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in PACKAGES if package not in there]


def _install() -> None:
    with _services_stay_off():
        _apt_get("install", "--no-install-recommends", *_missing())


def _unpack(package: str, program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = Path(name)
        _apt_get("download", package, cwd=folder)
        (archive,) = folder.glob(f"{package}_*.deb")
        execute(f"unpack {package}", ["dpkg-deb", "--extract", archive, folder])
        program.parent.mkdir(parents=True, exist_ok=True)
        (folder / "usr/bin" / program.name).rename(program)


def _apt_get(command: str, *words: str, cwd: Path = CACHE) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another source of this machine may fail to update; only the command has to succeed.
    try:
        execute("apt-get update", [*APT, "update"], env=env)
    except SetupError as error:
        trouble = error
    else:
        trouble = None
    try:
        execute(f"apt-get {command}", [*APT, command, *words], env=env, cwd=cwd)
    except SetupError as error:
        raise trouble or error from None


@contextmanager
def _services_stay_off() -> Iterator[None]:
    """Debian runs this file before it starts a service; exit code 101 forbids it."""
    if POLICY.exists():
        kept = POLICY.with_name("policy-rc.d.before-springtide")
        POLICY.rename(kept)
    else:
        kept = None
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
        if kept:
            kept.rename(POLICY)
