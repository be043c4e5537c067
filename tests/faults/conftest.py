"""The API server with our kinds, and the ground on which scenes are played."""

import pytest
from faults.playing import CRDS, Ground
from faults.proxy import Proxy


@pytest.fixture(scope="session")
def kinds(apiserver):
    """The API server with both kinds of ours."""
    for crd in sorted(CRDS.glob("*.yaml")):
        apiserver.kubectl("apply", "--server-side", "-f", str(crd))
    apiserver.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    return apiserver


@pytest.fixture
async def ground(kinds):
    async with Ground(kinds.kubeconfig) as made:
        yield made


@pytest.fixture
async def proxy(kinds, ground, tmp_path):
    """A proxy for operators; the scene's controllers do not go through it."""
    async with Proxy(kinds.kubeconfig, tmp_path) as between:
        yield between
        await ground.clear()
