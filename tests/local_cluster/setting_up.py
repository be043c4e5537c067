"""Makes a bare machine one that can run the project: `make setup`.

Two lanes run side by side: one compiles the Go programs, the other downloads and unpacks.
"""

import os
import shutil
import sys

from local_cluster import debian_packages, go_tools, images, virtual_environment
from local_cluster.images import ProjectImage
from local_cluster.places import CACHE, alone
from local_cluster.steps import SetupError, Step, run_lanes

DISK_GB = 30
PARTS = ("venv", "tools", "images")


def set_up(*, parts: str) -> None:
    """Make what is missing: `venv` alone, `tools` (the programs as well) or `images` (all).

    Raises:
        SetupError: something is missing that cannot be made here.
    """
    packages = debian_packages.step()
    environment = virtual_environment.step()
    if parts == "venv":
        lanes = [[environment]]
    else:
        _check_machine()
        lanes = [go_tools.steps(), [packages, environment]]
    if parts == "images":
        lanes[1] += [_image_step(image) for image in images.PROJECT]
    _check_disk()
    with alone(CACHE / "setup.lock"):
        run_lanes(lanes)


def _image_step(image: ProjectImage) -> Step:
    def missing() -> str:
        return "" if images.is_current(image) else f"builds {image.reference}"

    return Step(f"image of the {image.name}", missing, lambda: _build(image))


def _build(image: ProjectImage) -> None:
    images.ensure(image)


def _check_machine() -> None:
    if sys.platform != "linux":
        raise SetupError("the local cluster needs Linux; give CONTEXT to use a cluster you have")
    if os.geteuid() != 0:
        raise SetupError("the local cluster needs root; run it as root or give CONTEXT")


def _check_disk() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    there = (CACHE / "images/store").exists() and virtual_environment.STAMP.exists()
    free = shutil.disk_usage(CACHE).free / 1e9
    if free < DISK_GB and not there:
        raise SetupError(f"{CACHE} has {free:.0f} GB free and {DISK_GB} GB are needed")
