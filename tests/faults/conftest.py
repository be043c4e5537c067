"""The API server with our kinds, and the namespaces, operators and controllers of each test."""

import asyncio

import pytest
from faults.playing import Ground
from faults.proxy import Proxy

from springtide_operator.cluster.watching import optional_kind


@pytest.fixture
async def ground(kinds):
    async with Ground(kinds.kubeconfig) as made:
        yield made


@pytest.fixture
def soon(monkeypatch):
    """The first update that needs a kind of another project is noticed at once; so is its CRD."""
    for name in ("NEEDED_SECONDS", "STARTING_SECONDS", "UNAVAILABLE_SECONDS"):
        monkeypatch.setattr(optional_kind, name, 0.1)


@pytest.fixture
async def begin():
    """Begin what goes on until the end of the test, given as a coroutine."""
    tasks = []
    yield lambda part: tasks.append(asyncio.create_task(part))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def proxy(kinds, ground, tmp_path):
    """A proxy for operators; the scene's controllers do not go through it."""
    async with Proxy(kinds.kubeconfig, tmp_path) as between:
        yield between
        await ground.clear()
