"""The API server with our kinds, and the namespaces, operators and controllers of each test."""

import pytest
from faults.playing import Ground
from faults.proxy import Proxy


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
