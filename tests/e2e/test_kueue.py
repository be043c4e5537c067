"""Trainings in a queue of Kueue, with two GPUs for all: they wait, are preempted, and go on.

Kueue and JobSet are the real ones, with their webhooks; the GPUs are reported by the node, which
does not have them.
"""

import pytest
from demo.waiting import stalled
from e2e import small_model

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

STEPS = 3000
ON_TWO_NODES = {
    "hyperparameters": {"maxSteps": 600},
    "checkpoint": {"everySteps": 20},
    "compute": {"nodes": 2, "resources": {"cpu": "600m", "memory": "1Gi"}},
}
GPUS = 2
API = "kueue.x-k8s.io/v1beta1"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
NO_QUOTA = "insufficient unused quota for nvidia.com/gpu"
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
    """A quota of few GPUs, as docs/how-to/kueue.md has it for more."""
    quota = {"cpu": 8, "memory": "64Gi", "nvidia.com/gpu": GPUS}
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


def other_job(example, name, priority="", *, gpus=GPUS):
    """A Job of another team with GPUs, by default with all."""
    gpu = {"nvidia.com/gpu": str(gpus)}
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


@pytest.fixture(scope="module")
def example(small, node_kueue, gpus):
    """An update behind a Job that has the GPUs; generation 0 is live."""
    gpus(GPUS)
    example = small("kueue")
    objects = [*queues(example.namespace), urgent(), other_job(example, "first")]
    example.begin(change=in_the_queue, server=alone, before=lambda: example.kubectl.apply(objects))
    yield example
    example.show("delete", "jobs,jobsets", "--all", "--now")
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


def training(example, job, number):
    """Wait until the pods of a training run, and have a checkpoint that is newer than before."""
    before = example.checkpoints(number)[-1:]
    example.wait(
        lambda _: example.checkpoints(number)[-1:] > before, what="the next checkpoint", seconds=300
    )
    (now,) = example.jobs("train", kind=job["kind"])
    assert now["metadata"]["uid"] == job["metadata"]["uid"]


def preempted(example, job, by):
    """Let another Job preempt a training, wait until its pods have ended, and end that Job."""
    named = f"{job['kind']} {job['metadata']['name']}"
    example.kubectl.apply([by])
    status = progress(example, "Preempted in Kueue")
    assert "Preempted to accommodate a workload" in status["progress"]["waitingFor"]

    def reported(_):
        events = [one for one in example.events() if one["reason"] == "SuspendedByKueue"]
        return [one for one in events if f"{named}: Preempted: " in one["message"]]

    example.wait(reported, what="the Event, once the pods have ended")
    example.show("delete", f"job/{by['metadata']['name']}", "--now")


def only_created_by_the_operator(example, job):
    """Whether the operator has not written to a Job or JobSet since it created it."""
    name = f"{job['kind']}/{job['metadata']['name']}"
    metadata = example.get(name, "--show-managed-fields")["metadata"]
    wrote = [one["time"] for one in metadata["managedFields"] if one["manager"] == OPERATOR]
    return wrote == [metadata["creationTimestamp"]]


@pytest.mark.survives(
    "Queues",
    "a training waits for the quota of a real Kueue, is suspended with its update, and is "
    "preempted by a Job of a higher priority",
    "the same Job goes on from its checkpoint, in the same attempt, up to the promotion; the "
    "operator never writes to it",
)
def test_a_training_is_queued_held_preempted_requeued_and_promoted(example):
    status = progress(example, "Pending in Kueue")
    assert NO_QUOTA in status["progress"]["waitingFor"]
    assert status["phase"] == "Queued"
    assert not stalled(status)
    (job,) = example.jobs("train")
    assert job["spec"]["suspend"] is True

    example.edit({"suspend": True})
    example.wait(lambda _: not workload(example, job)["spec"]["active"], what="the deactivation")
    example.show("delete", "job/first", "--now")
    example.edit({"suspend": False})
    example.wait(lambda _: workload(example, job)["spec"]["active"], what="the activation")
    training(example, job, 1)

    preempted(example, job, other_job(example, "urgent", URGENT))
    training(example, job, 1)
    assert only_created_by_the_operator(example, job)

    example.goes_live(1, seconds=400)
    record = example.generations()[1]["status"]
    assert (record["training"]["attempt"], record["training"]["failedAttempts"]) == (1, 0)
    assert (record["evaluation"]["attempt"], record["evaluation"]["failedAttempts"]) == (1, 0)
    ran = record["training"]["runningSeconds"]
    assert record["training"]["gpuSeconds"] == ran > 0


@pytest.mark.survives(
    "Queues",
    "a training on two nodes, by a real JobSet and Kueue, finds one of its two GPUs free, and is "
    "then preempted by a Job of a higher priority",
    "it waits without a pod until both are free; the same JobSet goes on from its checkpoint, in "
    "the same attempt, up to the promotion; the operator never writes to it",
)
def test_a_training_on_two_nodes_is_admitted_as_a_whole_preempted_and_promoted(example):
    number = example.update()["live"]["number"] + 1
    example.kubectl.apply([other_job(example, "second", gpus=1)])
    example.wait(lambda _: not example.get("job/second")["spec"]["suspend"], what="its admission")
    example.edit({"training": ON_TWO_NODES})
    example.deliver("2026-03.csv.gz", small_model.month("2026-03"))
    example.request("run", "2026-03")
    status = progress(example, "Pending in Kueue")
    assert NO_QUOTA in status["progress"]["waitingFor"]
    assert status["phase"] == "Queued"
    assert not stalled(status)
    assert example.column("PROGRESS").startswith("Pending in Kueue")
    (job_set,) = example.jobs("train", kind="JobSet")
    assert (job_set["spec"]["suspend"], example.pods("train")) == (True, [])

    example.show("delete", "job/second", "--now")
    training(example, job_set, number)
    assert len(example.pods("train")) == 2
    preempted(example, job_set, other_job(example, "more-urgent", URGENT, gpus=1))
    training(example, job_set, number)
    assert only_created_by_the_operator(example, job_set)

    example.goes_live(number, seconds=400)
    record = example.generations()[number]["status"]["training"]
    assert (record["attempt"], record["failedAttempts"]) == (1, 0)
    assert record["gpuSeconds"] > 1.5 * record["runningSeconds"] > 0, "of both pods"


@pytest.mark.survives(
    "Queues",
    "an evaluation in shards has more pods than the whole quota has GPUs",
    "a real Kueue admits as many as fit, the others run after them, in the same attempt",
)
def test_an_evaluation_of_more_pods_than_the_quota_has_gpus_is_admitted(example):
    example.show("delete", "job/first", "--ignore-not-found", "--now")
    example.wait(lambda now: "live" in now, what="a live generation")
    few = {"hyperparameters": {"maxSteps": 20}, "compute": {"nodes": 1}}
    example.edit({"data": {"window": {"rowsPerShard": 1000}}, "training": few})
    month = f"2026-{len(list(example.folder('data').glob('2026-*'))) + 1:02}"
    example.deliver(f"{month}.csv.gz", small_model.month(month, 2500))
    example.request("run", month)

    def admitted(_=None):
        jobs = [job for job in example.jobs("evaluate") if job["spec"]["completions"] == 3]
        return [job for job in jobs if not job["spec"]["suspend"]]

    example.wait(admitted, what="the admission of the evaluation", seconds=400)
    (job,) = admitted()
    assert job["spec"]["parallelism"] == GPUS
    number = int(job["metadata"]["labels"]["springtide.dev/generation"])

    def judged(_):
        return example.generations()[number]["status"].get("verdict") != "Pending"

    example.wait(judged, what="the verdict", seconds=300)
    record = example.generations()[number]["status"]["evaluation"]
    assert (record["attempt"], record["failedAttempts"]) == (1, 0)
