"""Installs and builds what the project needs on a bare machine: `make setup`.

Two lanes run side by side: one compiles the Go programs, the other downloads and unpacks.
"""

import os
import shutil
import sys

from local_cluster import debian_packages, go_tools, images, kserve_environment, virtual_environment
from local_cluster.images import ProjectImage
from local_cluster.places import CACHE, alone
from local_cluster.steps import SetupError, Step, run_lanes

DISK_GB = {"venv": 8, "images": 16, "tools": 16, "demo": 30, "all": 30}
"""Free space that each part needs the first time."""
PARTS = tuple(DISK_GB)


def set_up(*, parts: str) -> None:
    """Install and build what is missing.

    Args:
        parts: `venv` the virtual environment; `images` the images; `tools` virtual environment,
            Kubernetes, etcd, Prometheus and the other programs; `demo` all of these and the
            gateway; `all` KServe, Kueue, JobSet and the object store too.

    Raises:
        SetupError: something is missing that cannot be installed here.
    """
    packages, prometheus = debian_packages.step(), debian_packages.prometheus()
    environment = virtual_environment.step()
    image_steps = [_image_step(image) for image in images.PROJECT]
    programs = [packages, prometheus, environment]
    lanes = {
        "venv": [[environment]],
        "images": [[packages, *image_steps]],
        "tools": [go_tools.steps(), programs],
        "demo": [go_tools.steps(go_tools.FOR_THE_DEMO), [*programs, *image_steps]],
        "all": [
            go_tools.steps(go_tools.FOR_ALL_TESTS),
            [
                *programs,
                kserve_environment.step(),
                *image_steps,
                _image_step(images.KSERVE),
            ],
        ],
    }
    if parts != "venv":
        _check_machine()
    _check_disk(parts)
    with alone(CACHE / "setup.lock"):
        run_lanes(lanes[parts])


def _image_step(image: ProjectImage) -> Step:
    def missing() -> str:
        return "" if images.is_current(image) else f"builds {image.reference}"

    return Step(f"image of the {image.name}", missing, lambda: _build(image))


def _build(image: ProjectImage) -> None:
    images.ensure(image)


def _check_machine() -> None:
    if sys.platform != "linux":
        raise SetupError(
            "the local cluster and the images need Linux; "
            "`make demo CONTEXT=NAME` uses a cluster of your kubeconfig"
        )
    if os.geteuid() != 0:
        raise SetupError("the local cluster and the images need root; run the command as root")


def _check_disk(parts: str) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    environment, store = virtual_environment.STAMP, CACHE / "images/store"
    everything = [environment, store]
    kept = {"images": [store], "demo": everything, "all": everything}
    results = kept.get(parts, [environment])
    free, needed = shutil.disk_usage(CACHE).free / 1e9, DISK_GB[parts]
    if free < needed and not all(result.exists() for result in results):
        raise SetupError(f"{CACHE} has {free:.0f} GB free and {needed} GB are needed")
