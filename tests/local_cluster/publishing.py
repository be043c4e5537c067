"""Pushes the project's images to a registry and names the commands that install them from there.

`make images REGISTRY=...` prints these commands; the demo and the end-to-end tests run them.
"""

import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

from local_cluster import images
from local_cluster.images import ProjectImage
from local_cluster.places import REPOSITORY

LOGIN_NEEDED = ("unauthorized", "denied", "authentication required")
INSTALL = """\
helm upgrade --install springtide charts/springtide \\
  --namespace springtide-system --create-namespace --wait \\
  --set image.repository={operator.repository} \\
  --set image.digest={operator.digest} \\
  --set trainer.repository={trainer.repository} \\
  --set trainer.digest={trainer.digest}
"""
EXAMPLE = """\
mkdir -p my-shop && cat > my-shop/kustomization.yaml <<'END'
resources: [../examples]
images:
  - name: springtide-trainer
    newName: {trainer.repository}
    digest: {trainer.digest}
END
"""


@dataclass(frozen=True)
class Published:
    """An image in a registry, named by what it is and not by a tag that can move."""

    repository: str
    digest: str

    @property
    def reference(self) -> str:
        return f"{self.repository}@{self.digest}"


def parse(reference: str) -> Published:
    """Split REPOSITORY@sha256:... into its two parts.

    Raises:
        ValueError: the reference names no digest.
    """
    repository, _, digest = reference.partition("@")
    if not digest.startswith("sha256:"):
        raise ValueError(f"{reference} is not REPOSITORY@sha256:...; a tag can move")
    return Published(repository, digest)


def publish(registry: str, *, enter: Sequence[str] = ()) -> tuple[Published, Published]:
    """Build the images if necessary and push them; return operator and trainer.

    Args:
        registry: host, port and path, such as registry.example/team.
        enter: prefix of a command that runs in the network from which the registry is reached.

    Raises:
        RuntimeError: a build or a push failed.
    """
    operator, trainer = (_publish(image, registry.rstrip("/"), enter) for image in images.PROJECT)
    return operator, trainer


def commands(operator: Published, trainer: Published) -> str:
    """Return the commands that install the operator and prepare the example, for a shell."""
    return f"{install_command(operator, trainer)}\n{EXAMPLE.format(trainer=trainer)}"


def install_command(operator: Published, trainer: Published) -> str:
    """Return the command that installs or upgrades the operator, run in the checkout."""
    return INSTALL.format(operator=operator, trainer=trainer)


def version() -> str:
    """Return the project's version, the tag of published images."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def _publish(image: ProjectImage, registry: str, enter: Sequence[str]) -> Published:
    repository = f"{registry}/springtide-{image.name}"
    _progress(f"builds {repository}, unless it is built already")
    built = images.ensure(image)
    _progress(f"pushes {repository}:{version()}")
    try:
        digest = images.push(built, f"{repository}:{version()}", enter=enter)
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in LOGIN_NEEDED):
            host = registry.partition("/")[0]
            raise RuntimeError(f"{error}\nlog in with `buildah login {host}` first") from error
        raise
    return Published(repository, digest)


def _progress(line: str) -> None:
    print(f"images: {line}", file=sys.stderr, flush=True)
