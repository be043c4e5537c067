"""The images of this repository, and what each is made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_cluster.node_config import REGISTRY
from local_cluster.places import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "operator", "trainer_image")


@dataclass(frozen=True)
class ProjectImage:
    """An image of this repository: a Dockerfile, pinned dependencies, the project on top.

    Attributes:
        sources: files and folders that are copied into it.
        context: folder of the build.
        stage: the stage of the Dockerfile that is the image; empty: the last one.
        base: the image that it is built on; None: the Debian base.
    """

    name: str
    dockerfile: str
    requirements: str
    sources: tuple[str, ...] = SOURCES
    context: str = ""
    stage: str = ""
    base: ProjectImage | None = None

    @property
    def reference(self) -> str:
        return f"{REGISTRY}/springtide-{self.name}:dev"

    def key(self) -> str:
        """Return a hash of everything that the image is made of: same key, same image."""
        files = [REPOSITORY / self.dockerfile, REPOSITORY / self.requirements]
        files += [REPOSITORY / "requirements/build.txt"]
        for source in self.sources:
            files += _files(REPOSITORY / source)
        return _digest(files) + (self.base.key() if self.base else "")

    def dependencies_key(self) -> str:
        """Return a hash of the pinned packages; when it changes the large layers are useless."""
        own = _digest([REPOSITORY / self.requirements])
        return own + (self.base.dependencies_key() if self.base else "")


OPERATOR = ProjectImage("operator", "operator/Dockerfile", "requirements/operator.txt")
TRAINER = ProjectImage("trainer", "trainer_image/Dockerfile", "requirements/trainer.txt")
PROJECT = (OPERATOR, TRAINER)
PACKAGES = ProjectImage(
    "packages", "trainer_image/Dockerfile", "requirements/trainer.txt", sources=(), stage="packages"
)
"""PyTorch and the other packages of the trainer, and nothing of this project."""
KSERVE = ProjectImage(
    "kserve",
    "examples/kserve/Containerfile",
    "examples/kserve/requirements.txt",
    sources=("examples/kserve",),
    context="examples/kserve",
    base=PACKAGES,
)
"""The example of a server that is not ours."""


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in files if "__pycache__" not in file.parts)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(REPOSITORY)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
