"""KServe's packages in a virtual environment of their own, for the tests of `examples/kserve`.

KServe needs older versions of some packages of this project. Packages that both pin to the same
version, PyTorch among them, are read from the project's environment, which saves 6 GB on disk. This
project's own modules cannot be imported here.
"""

import hashlib
import re
import shutil
import sys
from pathlib import Path

from local_cluster import virtual_environment
from local_cluster.places import CACHE, REPOSITORY, VENV, alone
from local_cluster.steps import Step, execute

ENVIRONMENT = CACHE / "kserve"
STAMP = ENVIRONMENT / "springtide-stamp"
PINS = REPOSITORY / "examples/kserve/requirements.txt"
SHARED = virtual_environment.REQUIREMENTS / "dev.txt"
LIBRARIES = Path(f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages")


def step() -> Step:
    """The step that makes it; the project's environment must exist."""
    return Step("KServe", _missing, _make)


def ensure() -> Path:
    """Make it unless it is there; return its Python."""
    with alone(CACHE / "kserve.lock"):
        if _missing():
            step().run()
    return ENVIRONMENT / "bin/python"


def own(pins: str, shared: str) -> dict[str, str]:
    """Return the entries of `pins` that are not in `shared` with the same version.

    Args:
        pins: a requirements file with hashes.
        shared: another one.

    Returns:
        The first line of each entry, such as `kserve==0.21.0`, and the entry.
    """
    known = _entries(shared)
    return {name: entry for name, entry in _entries(pins).items() if name not in known}


def _entries(pins: str) -> dict[str, str]:
    entries = re.split(r"^(?=\w)", pins, flags=re.MULTILINE)
    return {entry.splitlines()[0].rstrip(" \\"): entry for entry in entries if entry.strip()}


def _missing() -> str:
    if STAMP.exists() and STAMP.read_text() == _key():
        return ""
    return "installs the packages of examples/kserve (60 MB to download)"


def _make() -> None:
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    execute("python -m venv kserve", [sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT])
    chosen = ENVIRONMENT / "own.txt"
    chosen.write_text("".join(own(PINS.read_text(), SHARED.read_text()).values()))
    options = ("--no-deps", "--require-hashes", "-r", chosen)
    virtual_environment.install("kserve", *options, into=ENVIRONMENT)
    # What is installed here comes first on the path.
    (ENVIRONMENT / LIBRARIES / "shared.pth").write_text(f"{VENV / LIBRARIES}\n")
    STAMP.write_text(_key())


def _key() -> str:
    digest = hashlib.sha256(str(VENV).encode())
    for file in (PINS, SHARED):
        digest.update(file.read_bytes())
    return digest.hexdigest()
