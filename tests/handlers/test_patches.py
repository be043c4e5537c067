"""A JSON Patch whose test fails means a concurrent write: it is not a refusal."""

import pytest

from springtide_api.objects import Meta
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import JOB, UPDATE
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.cluster.writing.actuator import Actuator
from springtide_operator.lifecycle.state.plan import SetFinalizer, SuspendJob

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
    actuator = Actuator(client, new_cache(), None, None, None, "")
    with pytest.raises(errors.Conflict):
        await actuator.execute(seen, SetFinalizer(present=True))


@pytest.mark.parametrize("annotations", [{}, {"springtide.dev/spec-generation": "1"}])
async def test_a_job_that_an_earlier_version_suspended_is_resumed(stage, client, annotations):
    made = await stage.declare()
    template = {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": "trainer"}]}
    }
    metadata = {"namespace": stage.namespace, "name": "train", "annotations": annotations}
    spec = {"suspend": True, "template": template}
    job = await client.create(JOB, {"metadata": metadata, "spec": spec})
    cache = new_cache()
    cache.insert(JOB, job)
    actuator = Actuator(client, cache, None, None, None, "")
    resume = SuspendJob("train", job["metadata"]["uid"], suspend=False)
    await actuator.execute(Meta.model_validate(made["metadata"]), resume)
    assert (await client.get(JOB, stage.namespace, "train"))["spec"]["suspend"] is False
