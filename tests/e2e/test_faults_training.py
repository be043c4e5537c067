"""Training pods that are evicted during training, or killed for their memory."""

import json
import time

import pytest
from demo.example import UPDATE
from e2e.monitors import sending_requests

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1200)]

STEPS = 4000


@pytest.fixture(scope="module", autouse=True)
def begun(small):
    """All examples run at the same time."""
    small("evicted").begin(change=trains_for_a_while)
    small("undisturbed").begin(change=trains_for_a_while, server=alone)
    small("out-of-memory").begin(change=has_too_little_memory)


def trains_for_a_while(spec):
    options = spec["training"]["hyperparameters"]
    del options["epochs"]
    options["maxSteps"] = STEPS
    spec["training"]["checkpoint"]["everySteps"] = 100


def has_too_little_memory(spec):
    spec["training"]["compute"]["resources"]["memory"] = "160Mi"


def alone(deployment):
    deployment["replicas"] = 1


def evict(example, pod):
    """Ask for an eviction as `kubectl drain` does."""
    name = pod["metadata"]["name"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": example.namespace},
    }
    path = f"/api/v1/namespaces/{example.namespace}/pods/{name}/eviction"
    example.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(body).encode())


def resumed_from(example, pod):
    """Return the step from which a trainer continued, by its log; None: from the beginning."""
    text = example.show("logs", pod["metadata"]["name"])
    lines = [json.loads(each) for each in text.splitlines() if each.startswith("{")]
    return next((each["step"] for each in lines if each["message"] == "resumed"), None)


def until(answer, what, seconds=240.0):
    ends = time.monotonic() + seconds
    while not (found := answer()):
        assert time.monotonic() < ends, f"{what} did not come within {seconds:g} s"
        time.sleep(0.5)
    return found


def trained(example):
    def weights(_):
        return "artifact" in example.generations().get(1, {}).get("status", {})

    example.wait(weights, what="the weights of generation 1", seconds=600)
    return example.generations()[1]


@pytest.mark.survives(
    "Jobs and pods",
    "a training pod is evicted during training (kubectl drain, preemption)",
    "a new attempt, which is not counted, resumes from the checkpoint and ends with exactly "
    "the weights of an undisturbed run; the reason is Disrupted",
)
def test_evicted_training_continues_from_its_checkpoint_to_the_same_weights(small):
    example, other = small("evicted"), small("undisturbed")
    example.goes_live(0)
    until(lambda: example.checkpoints(1)[-1:] > [STEPS // 4], "a quarter of the training")
    (first,) = example.pods("train")
    evict(example, first)
    until(
        lambda: len(example.pods("train")) == 1 and example.pods("train") != [first], "the next pod"
    )

    def resumed():
        (second, *_) = [p for p in example.pods("train") if p["metadata"]["uid"] != uid] or [None]
        running = second and second["status"]["phase"] in {"Running", "Succeeded"}
        return resumed_from(example, second) if running else None

    uid = first["metadata"]["uid"]
    step = until(resumed, "the step from which it continues")
    assert STEPS // 4 < step < STEPS
    generation, undisturbed = trained(example), trained(other)
    training = generation["status"]["training"]
    assert (training["attempt"], training["failedAttempts"]) == (2, 0)
    assert "disrupted" in training["lastFailure"]
    said = [one for one in example.events() if one["reason"] == "Disrupted"]
    assert [one["involvedObject"]["name"] for one in said] == [f"{UPDATE}-g1"]
    assert generation["spec"]["data"]["digest"] == undisturbed["spec"]["data"]["digest"]
    mine, theirs = (one["status"]["artifact"] for one in (generation, undisturbed))
    assert mine["weightsDigest"] == theirs["weightsDigest"]


@pytest.mark.survives(
    "Jobs and pods",
    "the memory limit of the training pod is too low, and the kernel kills it each time",
    "reported as OutOfMemory with the fields to change; each attempt has half the rows for "
    "each batch; Failed after limits.maxAttempts; live generation and Deployment unchanged, no "
    "request fails",
)
def test_training_killed_for_its_memory_is_reported_and_retried_with_smaller_batches(small):
    example = small("out-of-memory")
    example.goes_live(0)
    before = example.get(f"deployment/{UPDATE}")
    with sending_requests(example) as client:
        status = example.wait(
            lambda now: now["lastRun"].get("verdict") == "Failed", what="the end", seconds=300
        )
        client.wait_for(more=5)
        assert client.totals()["failures"] == []
    lost = example.generations()[1]["status"]
    assert (lost["phase"], lost["reason"]) == ("Failed", "OutOfMemory")
    for words in ("training.compute.resources.memory", "batchSize", "3 of 3 attempts"):
        assert words in lost["message"], lost["message"]
    assert (lost["training"]["attempt"], lost["training"]["batchDivisor"]) == (3, 4)
    assert len(lost["training"]["adjustments"]) == 2
    assert status["live"]["number"] == 0
    assert example.get(f"deployment/{UPDATE}")["spec"] == before["spec"]
