"""Jobs as the operator creates them on a real API server."""

import asyncio

import pytest
from patience import within

from springtide_operator.cluster.kinds import JOB
from springtide_operator.manifests.job_pods import JobPods

pytestmark = pytest.mark.apiserver

GPU_NODES = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
    }
}


async def test_what_the_installation_adds_to_jobs_is_accepted_by_the_api_server(stage):
    given = {
        "imagePullSecrets": ["registry"],
        "serviceAccountName": "trainer",
        "labels": {"team": "search"},
        "affinity": {"nodeAffinity": GPU_NODES},
        "runtimeClassName": "gvisor",
    }
    stage.pause_stand_ins()
    await stage.declare()
    await stage.start(job_pods=JobPods.model_validate(given))
    async with within(30):
        while not (jobs := (await stage.client.list_all(JOB, stage.namespace)).items):
            await asyncio.sleep(0.05)

    job, pod = jobs[0], jobs[0]["spec"]["template"]["spec"]
    assert job["metadata"]["labels"]["team"] == "search"
    assert job["spec"]["template"]["metadata"]["labels"]["team"] == "search"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["serviceAccountName"] == "trainer"
    assert pod["affinity"] == {"nodeAffinity": GPU_NODES}
    assert pod["runtimeClassName"] == "gvisor"
