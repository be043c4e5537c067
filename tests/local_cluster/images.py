"""Builds the project's images with buildah, without a container engine and a public registry.

The base is a Debian made by debootstrap. The store stays in the cache folder, so a change of the
code rebuilds one thin layer. `node_images` loads the images into the local cluster, `publishing`
pushes them to any registry.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_cluster import shared_files
from local_cluster.node_config import PAUSE, REGISTRY
from local_cluster.places import IMAGES, REPOSITORY, VENV, alone, uv_cache
from local_cluster.project_images import KSERVE, PACKAGES, PROJECT, ProjectImage

BASE = f"{REGISTRY}/python:bookworm"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PAUSE_DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
USER 65535:65535
ENTRYPOINT ["/bin/busybox", "sleep", "2147483647"]
"""
# buildah copies itself into a sealed memory file at each start; when a page of that file is still
# being written the kernel refuses the seal, and the next attempt succeeds.
TRANSIENT_ERROR = "sealing memfd copy"
ATTEMPTS = 5
LOCK = IMAGES / "lock"
REGISTRY_STORAGE = IMAGES / "registry"


def ensure_pause() -> str:
    """Build the pause image of pods, which contains busybox for tests; returns its name."""
    with alone(LOCK):
        if not exists(PAUSE):
            context = IMAGES / "pause"
            context.mkdir(exist_ok=True)
            shutil.copy(_busybox(), context / "busybox")
            (context / "Dockerfile").write_text(PAUSE_DOCKERFILE)
            buildah("bud", "--quiet", "--tag", PAUSE, str(context))
    return PAUSE


def ensure(image: ProjectImage) -> str:
    """Build the image unless it was built from exactly these sources; returns its name."""
    if image.base:
        ensure(image.base)
    with alone(LOCK):
        if not is_current(image):
            key = image.key()
            _ensure_base()
            _drop_outdated(image)
            _build(image)
            shared_files.share([VENV], _layers(), scratch=IMAGES / "tmp")
            _stamp(image).write_text(key)
    return image.reference


def share_layers(of_node: Iterable[Path]) -> None:
    """Let layers of a node use the disk space of equal files in the store.

    Args:
        of_node: folders of layers that no container writes to.
    """
    with alone(LOCK):
        shared_files.share(_layers(), of_node, scratch=IMAGES / "tmp")


def is_current(image: ProjectImage) -> bool:
    """Return whether the store has the image of exactly these sources."""
    stamp = _stamp(image)
    return stamp.exists() and stamp.read_text() == image.key() and exists(image.reference)


def push(reference: str, to: str, *, enter: Sequence[str] = ()) -> str:
    """Push an image of the store to a registry and return the digest of its manifest.

    Only layers that the registry does not have are sent. Credentials are those of `docker login`
    or `buildah login`. TLS is not required of a registry on this machine.

    Args:
        reference: name of the image in the store.
        to: its name in the registry.
        enter: prefix of a command that runs in another network namespace.
    """
    options = ["--quiet"]
    if is_local(to):
        # zstd halves the time of push and pull, and the local containerd reads it.
        options += ["--tls-verify=false", "--compression-format=zstd", "--compression-level=1"]
    with tempfile.NamedTemporaryFile(mode="r") as digest:
        options.append(f"--digestfile={digest.name}")
        buildah("push", *options, reference, f"docker://{to}", enter=enter)
        return digest.read().strip()


def is_local(reference: str) -> bool:
    """Return whether an image is in a registry on the loopback address."""
    host = reference.partition("/")[0].partition(":")[0]
    return host == "localhost" or host.startswith("127.")


def buildah(*arguments: str, enter: Sequence[str] = ()) -> str:
    """Run buildah on the project's own store and return what it printed.

    Raises:
        RuntimeError: it failed; the message ends with its last lines.
    """
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / "tmp").mkdir(exist_ok=True)
    places = ("--root", f"{IMAGES}/store", "--runroot", f"{IMAGES}/run")
    settings = {"STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot"}
    for _ in range(ATTEMPTS):
        ran = subprocess.run(
            [*enter, "buildah", *places, *arguments],
            env={**os.environ, **settings, "TMPDIR": f"{IMAGES}/tmp"},
            capture_output=True,
            text=True,
            check=False,
        )
        if TRANSIENT_ERROR not in ran.stderr:
            break
    if ran.returncode:
        end = "\n".join((ran.stdout + ran.stderr).splitlines()[-15:])
        raise RuntimeError(f"buildah {' '.join(arguments)}:\n{end}")
    return ran.stdout


def _layers() -> list[Path]:
    """Return the folders of all layers of images; those of containers are writable."""
    store = IMAGES / "store"
    layers = _entries(store / "overlay-layers/layers.json")
    writable = {entry["layer"] for entry in _entries(store / "overlay-containers/containers.json")}
    names = [layer["id"] for layer in layers if layer["id"] not in writable]
    return [store / "overlay" / name / "diff" for name in names]


def _entries(index: Path) -> list[dict]:
    return json.loads(index.read_text()) if index.exists() else []


def _stamp(image: ProjectImage) -> Path:
    return IMAGES / f"{image.name}.key"


def _build(image: ProjectImage) -> None:
    with _wheels() as cache:
        buildah(
            "bud",
            "--layers",
            f"--build-arg=BASE={image.base.reference if image.base else BASE}",
            "--build-arg=UV_CACHE_DIR=/uv-cache",
            f"--volume={cache}:/uv-cache",
            f"--file={REPOSITORY / image.dockerfile}",
            f"--tag={image.reference}",
            *([f"--target={image.stage}"] if image.stage else []),
            str(REPOSITORY / image.context),
        )


@contextmanager
def _wheels() -> Iterator[Path]:
    """Yield uv's cache for a build.

    Wheels that the virtual environment needed are in the user's cache and share its disk space.
    Without one the cache is deleted after the build: it would need 6 GB that nothing shares.
    """
    if VENV.exists():
        cache = uv_cache()
        cache.mkdir(parents=True, exist_ok=True)
        yield cache
        return
    (IMAGES / "tmp").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=IMAGES / "tmp") as folder:
        yield Path(folder)


def _ensure_base() -> None:
    if exists(BASE):
        return
    tree = IMAGES / "rootfs"
    if not (tree / "complete").exists():
        _bootstrap(tree)
    container = buildah("from", "scratch").strip()
    mounted = buildah("mount", container).strip()
    subprocess.run(["cp", "-a", f"{tree}/.", mounted], check=True)
    buildah("umount", container)
    # Behind a proxy that terminates TLS the builds must trust what this machine trusts.
    trust = [f"--env={name}={AUTHORITIES}" for name in ("PIP_CERT", "SSL_CERT_FILE")]
    buildah("config", "--cmd=bash", *trust, container)
    buildah("commit", "--rm", container, BASE)
    shutil.rmtree(tree)


def _bootstrap(tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    log = IMAGES / "debootstrap.log"
    packages = "--include=python3,python3-venv,ca-certificates"
    with log.open("w") as output:
        ran = subprocess.run(
            ["debootstrap", "--variant=minbase", packages, "bookworm", str(tree)],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ran.returncode:
        raise RuntimeError(f"debootstrap failed: {log.read_text().splitlines()[-1:]}; see {log}")
    for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(tree / folder, ignore_errors=True)
        (tree / folder).mkdir()
    shutil.copy(AUTHORITIES, tree / AUTHORITIES.relative_to("/"))
    (tree / "complete").touch()


def _drop_outdated(image: ProjectImage) -> None:
    stamp, key = IMAGES / f"{image.name}.dependencies", image.dependencies_key()
    if stamp.exists() and stamp.read_text() != key and exists(image.reference):
        # An image that has the same large layers would keep them.
        for other in (*PROJECT, PACKAGES, KSERVE):
            if image.requirements in _pins(other) and exists(other.reference):
                buildah("rmi", "--force", other.reference)
        buildah("rmi", "--prune")
        # The registry does not remove unused layers; what is needed is pushed again.
        shutil.rmtree(REGISTRY_STORAGE, ignore_errors=True)
    stamp.write_text(key)


def _pins(image: ProjectImage) -> list[str]:
    return [image.requirements, *(_pins(image.base) if image.base else [])]


def exists(reference: str) -> bool:
    return bool(buildah("images", "--quiet", "--filter", f"reference={reference}").strip())


def _busybox() -> str:
    if path := shutil.which("busybox"):
        return path
    raise RuntimeError("busybox is missing; run `make setup`")
