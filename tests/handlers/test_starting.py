"""A start that fails."""

import asyncio
from types import SimpleNamespace

import pytest

from springtide_operator.assembly import Operator
from springtide_operator.settings import Settings


async def test_an_operator_whose_start_fails_ends_instead_of_doing_nothing(monkeypatch):
    async def fail():
        raise RuntimeError("the API server's time is not known")

    operator = Operator(Settings("trainer", "http://operator:8080"), SimpleNamespace())
    monkeypatch.setattr(operator.lease, "acquire", fail)
    starting = operator.begin()
    await asyncio.wait({starting})
    await asyncio.sleep(0)
    assert operator.ended.done()
    with pytest.raises(RuntimeError, match="time is not known"):
        operator.ended.result()
    await operator.drop()
