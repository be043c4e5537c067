"""Who may report progress, and what a report may hold; tokens are real ones of the API server."""

import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from springtide_operator.cluster.api.kinds import JOB, POD, Kind

pytestmark = pytest.mark.apiserver

ACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")
REPORT = {
    "trainerStatus": {
        "progressPercentage": 40,
        "estimatedRemainingSeconds": 90,
        "metrics": [{"name": "loss", "value": "0.31"}, {"name": "note", "value": "nan"}],
    }
}


@pytest.fixture
async def training(stage):
    """An update whose training Job of generation 1 has one running pod; reports go to `post`."""
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    stage.stand_ins.held = {"train"}
    await stage.declare()
    await stage.client.create(
        ACCOUNT, {"metadata": {"namespace": stage.namespace, "name": "default"}}
    )
    await stage.start()
    await stage.until(lambda status: (status.get("candidate") or {}).get("number") == 1)
    jobs = []
    while not jobs:
        listed = (await stage.client.list_all(JOB, stage.namespace)).items
        jobs = [job for job in listed if stage.stand_ins.stage(job) == "train"]
    (job,) = jobs
    pod = await stage.stand_ins.pod(job, "Running", None, "")
    server = TestServer(stage.operator.progress_server.application())
    await server.start_server()
    stage.job, stage.pod = job["metadata"]["name"], pod["metadata"]["name"]
    stage.post = poster(stage, server)
    await stage.seen(POD, stage.pod)
    yield stage
    await server.close()


def poster(stage, server):
    @asynccontextmanager
    async def post(token, body, job=stage.job):
        url = server.make_url(f"/progress/{stage.namespace}/{job}")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=data, headers=headers) as answer,
        ):
            yield answer

    return post


def token(stage, pod, audience="springtide-progress"):
    bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if pod else []
    made = stage.kinds.kubectl(
        "create", "token", "default", "-n", stage.namespace, f"--audience={audience}", *bound
    )
    return made.strip()


async def test_a_report_of_the_job_s_own_pod_is_shown_in_status(training):
    async with training.post(token(training, training.pod), REPORT) as answer:
        assert answer.status == 200
    status = await training.until(lambda status: status["progress"].get("percent") == 40)
    assert status["progress"]["etaSeconds"] == 90
    assert status["progress"]["summary"] == "Train 40%, 90s left"
    seen = training.operator.reports.of(training.namespace, training.job)
    assert seen.metrics == (("loss", 0.31),)


@pytest.mark.survives(
    "Requests",
    "progress reported with no token, one of another audience or another pod's",
    "401 or 403; the report is dropped",
)
async def test_reports_with_any_other_token_are_refused(training):
    other_pod = await training.client.create(
        POD,
        {
            "metadata": {
                "namespace": training.namespace,
                "name": "other-pod",
                "labels": {"springtide.dev/stage": "train", "springtide.dev/update": "shop"},
            },
            "spec": {
                "serviceAccountName": "default",
                "containers": [{"name": "trainer", "image": "trainer"}],
            },
        },
    )
    await training.seen(POD, "other-pod")
    cases = {
        "": 401,
        "no token at all": 401,
        token(training, training.pod, audience="https://kubernetes.default.svc"): 401,
        token(training, None): 401,
        token(training, other_pod["metadata"]["name"]): 403,
    }
    for sent, expected in cases.items():
        async with training.post(sent, REPORT) as answer:
            assert answer.status == expected
    async with training.post(token(training, training.pod), REPORT, job="another") as answer:
        assert answer.status == 403
    assert training.operator.reports.of(training.namespace, training.job) is None


@pytest.mark.survives(
    "Requests",
    "a progress report that is not JSON, out of bounds, NaN or huge",
    "400 with the field, or 413; the report is dropped",
)
async def test_malformed_reports_are_refused_with_the_invalid_field(training):
    good = token(training, training.pod)
    cases = [
        (b"{", 400, "Invalid JSON"),
        ({"trainerStatus": {"progressPercentage": 101}}, 400, "progressPercentage"),
        (b'{"trainerStatus": {"progressPercentage": NaN}}', 400, "progressPercentage"),
        ({"trainerStatus": {"metrics": [{"name": "x" * 200, "value": 1}]}}, 400, "name"),
        ({"trainerStatus": {}, "padding": "x" * 20_000}, 413, "Maximum request body size"),
    ]
    for body, status, text in cases:
        async with training.post(good, body) as answer:
            assert answer.status == status
            assert text in await answer.text()
