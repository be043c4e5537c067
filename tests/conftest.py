"""What all tests share: the local cluster's fixtures, our kinds, and how they run side by side."""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports PyTorch: threads of several workers on few cores wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["event_loop", "local_cluster.fixtures", "side_by_side"]

CRDS = Path(__file__).parents[1] / "crds"

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("exploring", deadline=None, print_blob=True)


def pytest_configure(config):
    """Try the same examples in each run; `make test-faults` looks for new ones."""
    settings.load_profile("exploring" if config.option.markexpr == "faults" else "repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Import all tests without garbage collection: what they make lives as long as the worker."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure():
    """Let extension modules free what they made, or they print at exit what is left."""
    gc.unfreeze()


def pytest_make_parametrize_id(val, argname):
    """Name bytes by their parameter: compressed ones hold the time, and workers compare names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def threads_stay():
    """Fail a test that leaves PyTorch with other threads: the next one has other last bits."""
    before = _threads()
    yield
    after = _threads()
    if before and after != before:
        sys.modules["torch"].set_num_threads(before)
        pytest.fail(f"the test leaves PyTorch with {after} threads; it found {before}")


def _threads():
    return torch.get_num_threads() if (torch := sys.modules.get("torch")) else None


@pytest.fixture(scope="session")
def kinds(apiserver):
    """The API server with both kinds of ours."""
    for crd in sorted(CRDS.glob("*.yaml")):
        apiserver.kubectl("apply", "--server-side", "-f", str(crd))
    apiserver.wait_for_crds()
    return apiserver
