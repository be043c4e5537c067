"""A namespace with a live update is deleted, and the operator does not delay it."""

import json
import time

import pytest
from demo.cluster import SYSTEM
from demo.example import UPDATE
from e2e import owner

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

GONE_WITHIN = 60
SETTLED = 3.0
"""Seconds in which requests in flight may still end."""
QUIET = 15.0
"""Seconds without a log entry about it: the first retries would be in them."""
FINALIZER = "springtide.dev/rollout"
NEVER_READY = """
case "$(cat /etc/pod/generation)" in
  ""|0) exec python -m springtide_server ;;
  *) exec sleep infinity ;;
esac
"""


def trains_for_ever(spec):
    options = spec["training"]["hyperparameters"]
    del options["epochs"]
    options["maxSteps"] = 100_000


def serves_generation_0_alone(deployment):
    (container,) = deployment["template"]["spec"]["containers"]
    container["command"] = ["sh", "-c", NEVER_READY]


def operators(example):
    """Each pod of the operator with the restarts of its container."""
    chosen = "--selector=app.kubernetes.io/name=springtide"
    pods = example.kubectl.get("pods", f"--namespace={SYSTEM}", chosen)["items"]
    return {
        pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in pods
    }


def said(example, since):
    """What the operator has logged about the namespace since a moment, one entry a line."""
    command = ("logs", "deployment/springtide", f"--since-time={since}")
    text = example.kubectl(f"--namespace={SYSTEM}", *command)
    entries = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [one for one in entries if example.namespace in json.dumps(one)]


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def delete(example):
    """Delete the namespace; then the operator must not log anything about it."""
    before = operators(example)
    example.kubectl("delete", "namespace", example.namespace, "--wait", f"--timeout={GONE_WITHIN}s")
    time.sleep(SETTLED)
    gone = now()
    time.sleep(QUIET)
    assert said(example, gone) == []
    assert operators(example) == before


@pytest.mark.survives(
    "People",
    "the namespace is deleted during training, on a real cluster",
    "deleted within 60 s; the operator does not restart, and from 3 s after that it logs "
    "nothing about it for 15 s",
)
def test_a_namespace_deleted_in_training_is_gone_within_a_minute(small):
    example = small("leaving")
    example.begin(head=False, change=trains_for_ever)
    owner.until(lambda: example.checkpoints(1), "a checkpoint", seconds=180)
    delete(example)


@pytest.mark.survives(
    "People",
    "the namespace is deleted during a rollout whose pods do not become ready",
    "the finalizer does not block it: deleted within 60 s; the operator does not restart, and "
    "from 3 s after that it logs nothing about it for 15 s",
)
@pytest.mark.faults
def test_a_namespace_deleted_in_a_roll_is_gone_within_a_minute(small):
    example = small("rolling")
    example.begin(server=serves_generation_0_alone)
    example.goes_live(0)
    example.wait(lambda now: now["phase"] == "RollingOut", what="the roll of generation 1")
    owner.until(lambda: len(example.served()["pods"]) == 3, "a pod of generation 1")
    assert FINALIZER in example.get(f"iu/{UPDATE}")["metadata"]["finalizers"]
    delete(example)
