"""A training in a queue of Kueue, with one GPU for all: it waits, is preempted, and goes on.

Kueue is the real one, with its webhooks; the GPU is one that the node reports and does not have.
"""

import pytest
from demo.waiting import stalled

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

STEPS = 3000
API = "kueue.x-k8s.io/v1beta1"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
OPERATOR = "springtide-operator"
URGENT = "springtide-test-urgent"


def in_the_queue(spec):
    """Train for a while on the GPU, through the queue."""
    options = spec["training"]["hyperparameters"]
    del options["epochs"]
    options["maxSteps"] = STEPS
    spec["training"]["checkpoint"]["everySteps"] = 100
    spec["training"]["compute"] |= {"gpusPerNode": 1, "queueName": "gpus"}


def alone(deployment):
    deployment["replicas"] = 1


def queues(namespace):
    """A quota of one GPU, as docs/how-to/kueue.md has it for more."""
    quota = {"cpu": 8, "memory": "64Gi", "nvidia.com/gpu": 1}
    flavor = {
        "name": "fake",
        "resources": [{"name": name, "nominalQuota": most} for name, most in quota.items()],
    }
    cluster_queue = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [{"coveredResources": list(quota), "flavors": [flavor]}],
    }
    specs = {
        ("ResourceFlavor", "fake"): {},
        ("ClusterQueue", "springtide-test"): cluster_queue,
        ("LocalQueue", "gpus"): {"clusterQueue": "springtide-test"},
    }
    return [
        {
            "apiVersion": API,
            "kind": kind,
            "metadata": {"name": name} | ({"namespace": namespace} if kind == "LocalQueue" else {}),
            "spec": spec,
        }
        for (kind, name), spec in specs.items()
    ]


def other_job(example, name, priority=""):
    """A Job of another team with the GPU."""
    gpu = {"nvidia.com/gpu": "1"}
    container = {
        "name": "wait",
        "image": example.cluster.trainer_image,
        "command": ["sleep", "3600"],
        "resources": {"limits": {**gpu, "cpu": "50m", "memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"priorityClassName": priority} if priority else {}),
    }
    labels = {QUEUE_LABEL: "gpus"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": example.namespace, "labels": labels},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


def urgent():
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": URGENT},
        "value": 1000,
        "preemptionPolicy": "Never",
    }


@pytest.fixture
def example(small, node_kueue, gpus):
    """An update behind a Job that has the GPU; generation 0 is live."""
    gpus(1)
    example = small("kueue")
    objects = [*queues(example.namespace), urgent(), other_job(example, "first")]
    example.begin(change=in_the_queue, server=alone, before=lambda: example.kubectl.apply(objects))
    yield example
    example.show("delete", "jobs", "--all", "--now")
    example.show("delete", f"priorityclass/{URGENT}", "clusterqueue/springtide-test")


def progress(example, words):
    """Wait until the column Progress begins with these words; return the status."""

    def shows(now):
        return now.get("progress", {}).get("summary", "").startswith(words)

    return example.wait(shows, what=words, seconds=300)


def workload(example, job):
    uid = job["metadata"]["uid"]
    (found,) = example.get("workloads", f"--selector=kueue.x-k8s.io/job-uid={uid}")["items"]
    return found


def training(example, job):
    """Wait until the pod of a training runs, and has a checkpoint that is newer than before."""
    before = example.checkpoints(1)[-1:]
    example.wait(
        lambda _: example.checkpoints(1)[-1:] > before, what="the next checkpoint", seconds=300
    )
    (now,) = example.jobs("train")
    assert now["metadata"]["uid"] == job["metadata"]["uid"]
    return now


def preemptions(example):
    """Messages of the Events of preemptions."""
    found = [one["message"] for one in example.events() if one["reason"] == "SuspendedByKueue"]
    return [message for message in found if ": Preempted: " in message]


@pytest.mark.survives(
    "Queues",
    "a training waits for the quota of a real Kueue, is suspended with its update, and is "
    "preempted by a Job of a higher priority",
    "the same Job goes on from its checkpoint, in the same attempt, up to the promotion; the "
    "operator never writes to it",
)
def test_a_training_is_queued_held_preempted_requeued_and_promoted(example):
    status = progress(example, "Pending in Kueue")
    assert "insufficient unused quota for nvidia.com/gpu" in status["progress"]["waitingFor"]
    assert status["phase"] == "Queued"
    assert not stalled(status)
    (job,) = example.jobs("train")
    assert job["spec"]["suspend"] is True

    example.edit({"suspend": True})
    example.wait(lambda _: not workload(example, job)["spec"]["active"], what="the deactivation")
    example.show("delete", "job/first", "--now")
    example.edit({"suspend": False})
    example.wait(lambda _: workload(example, job)["spec"]["active"], what="the activation")
    training(example, job)

    example.kubectl.apply([other_job(example, "urgent", URGENT)])
    status = progress(example, "Preempted in Kueue")
    assert "Preempted to accommodate a workload" in status["progress"]["waitingFor"]
    example.wait(lambda _: preemptions(example), what="the Event, once the pod has ended")
    example.show("delete", "job/urgent", "--now")
    name = training(example, job)["metadata"]["name"]
    metadata = example.get(f"job/{name}", "--show-managed-fields")["metadata"]
    wrote = [one["time"] for one in metadata["managedFields"] if one["manager"] == OPERATOR]
    assert wrote == [metadata["creationTimestamp"]], "nothing since it was created"

    example.goes_live(1, seconds=400)
    record = example.generations()[1]["status"]
    assert (record["training"]["attempt"], record["training"]["failedAttempts"]) == (1, 0)
    assert (record["evaluation"]["attempt"], record["evaluation"]["failedAttempts"]) == (1, 0)
    ran = record["training"]["runningSeconds"]
    assert record["training"]["gpuSeconds"] == ran > 0
