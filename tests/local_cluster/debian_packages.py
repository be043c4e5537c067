"""The Debian packages that the local cluster needs; their services are never started."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    missing = _missing()
    # Another source of this machine may fail to update; only the install has to succeed.
    try:
        execute("apt-get update", [*APT, "update"], env=env)
    except SetupError as error:
        trouble = error
    else:
        trouble = None
    with _services_stay_off():
        try:
            execute(
                "apt-get install", [*APT, "install", "--no-install-recommends", *missing], env=env
            )
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
