"""A JSON Patch whose test fails means that somebody else was faster: it is no refusal."""


import pytest

from springtide_api.objects import Meta
from springtide_operator.cluster import errors
from springtide_operator.cluster.act import Hands
from springtide_operator.cluster.kinds import UPDATE
from springtide_operator.cluster.watching import new_cache
from springtide_operator.lifecycle.plan import HoldFinalizer

pytestmark = pytest.mark.apiserver


@pytest.mark.survives(
    "API server",
    "another client adds a finalizer between a reconcile's read and its write",
    "the update is read again; no refused write is reported",
)
async def test_a_patch_whose_test_fails_is_read_again_and_not_refused(stage, client):
    made = await stage.declare()
    metadata = {"namespace": stage.namespace, "name": "shop"}
    metadata["finalizers"] = ["example.com/other"]
    await client.apply(UPDATE, {"metadata": metadata}, manager="another")
    seen = Meta.model_validate({**made["metadata"], "finalizers": ["example.com/older"]})
    hands = Hands(client, new_cache(), None, None, None, "")
    with pytest.raises(errors.Conflict):
        await hands.do(seen, HoldFinalizer(present=True))
