"""Pods that do not start: refused, without a node or an image; reported, then corrected."""

import time
from contextlib import ExitStack
from datetime import datetime

import pytest
from demo.example import UPDATE
from e2e.monitors import recording

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NO_SUCH_IMAGE = "localhost:5000/springtide-trainer:no-such-tag"
REPORTED_WITHIN = 30.0
REFUSED = {"quota": "QuotaExceeded", "limits": "PodsForbidden", "sidecar": "PodsForbidden"}
"""Why the pods of an example are refused, by its name."""
QUIET = 12.0
"""Seconds in which an update whose pods are refused is watched."""


@pytest.fixture(scope="module", autouse=True)
def begun(small):
    """All examples run at the same time; their server has no pods, since it gets no requests."""

    def begin(name, **options):
        small(name).begin(head=False, server=without_pods, **options)

    begin("gpu", change=needs_a_gpu)
    begin("quota", before=lambda: small("quota").kubectl.apply([quota_in("small-quota")]))
    begin("limits", before=lambda: small("limits").kubectl.apply([limits_in("small-limits")]))
    begin("sidecar", before=lambda: small("sidecar").kubectl.apply(sidecar_in("small-sidecar")))
    begin("image", change=names_a_wrong_image)


def without_pods(deployment):
    deployment["replicas"] = 0


def needs_a_gpu(spec):
    spec["training"]["compute"]["gpusPerNode"] = 1


def names_a_wrong_image(spec):
    spec["training"]["image"] = NO_SUCH_IMAGE


def quota_in(namespace):
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": namespace},
        "spec": {"hard": {"requests.memory": "256Mi"}},
    }


def limits_in(namespace):
    most = [{"type": "Container", "max": {"memory": "1Gi"}}]
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "team", "namespace": namespace},
        "spec": {"limits": most},
    }


def sidecar_in(namespace):
    """Add a container that `restricted` forbids to every pod, as a service mesh does."""
    group = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": namespace}}
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    place = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    security = "Object.spec.containers.securityContext"
    container = (
        'Object.spec.containers{name: "mesh", image: "mesh", '
        f"securityContext: {security}{{capabilities: {security}.capabilities"
        '{add: ["NET_ADMIN"]}}}'
    )
    put = f'[JSONPatch{{op: "add", path: "/spec/containers/-", value: {container}}}]'
    return [
        {
            **group,
            "kind": "MutatingAdmissionPolicy",
            "spec": {
                "matchConstraints": {
                    "resourceRules": [{**pods, "operations": ["CREATE"]}],
                    "namespaceSelector": place,
                },
                "reinvocationPolicy": "Never",
                "failurePolicy": "Fail",
                "mutations": [
                    {"patchType": "JSONPatch", "jsonPatch": {"expression": put}},
                ],
            },
        },
        {**group, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": namespace}},
    ]


def moment(text):
    return datetime.fromisoformat(text)


def stalled(status):
    found = [one for one in status.get("conditions", []) if one["type"] == "Stalled"]
    return found[0] if found else {}


def reported(example, reason):
    """Wait for a stall with this reason within 30 s of the Job; return its message."""
    status = example.wait(lambda now: stalled(now).get("reason") == reason, what=reason)
    (job,) = example.jobs()
    said = stalled(status)
    late = moment(said["lastTransitionTime"]) - moment(job["metadata"]["creationTimestamp"])
    assert late.total_seconds() <= REPORTED_WITHIN
    assert (status["phase"], status["progress"]["waitingFor"]) == ("Queued", said["message"])
    return said["message"]


@pytest.fixture(scope="module")
def refused(small):
    """What each update says whose pods are refused, and its versions in 12 s after that."""
    messages = {name: reported(small(name), reason) for name, reason in REFUSED.items()}
    with ExitStack() as all_at_once:
        what = (f"iu/{UPDATE}", ".metadata.resourceVersion")
        seen = {name: all_at_once.enter_context(recording(small(name), *what)) for name in REFUSED}
        time.sleep(QUIET)
        return {name: (messages[name], versions()) for name, versions in seen.items()}


def writes_nothing(example, reason, versions):
    """While nothing changes nothing is written, and the event is reported once."""
    assert len(versions) == 1, "the status is written again and again"
    assert stalled(example.update())["reason"] == reason
    (event,) = [one for one in example.events() if one["reason"] == reason]
    assert event["count"] == 1
    assert len(example.jobs()) == 1


def imported(example):
    """Wait until the weights of the initial model are there; return their generation."""

    def there(_):
        return [
            one for one in example.generations().values() if "artifact" in one.get("status", {})
        ]

    example.wait(there, what="the import")
    (generation,) = there(None)
    return generation


@pytest.mark.survives(
    "Jobs and pods",
    "a ResourceQuota refuses the pods of a Job",
    "reported as QuotaExceeded with the quota's numbers within 30 s; nothing is written and no "
    "other Job is created meanwhile; continues when the quota is raised",
)
def test_an_exceeded_quota_is_reported_with_its_numbers_and_waited_for(small, refused):
    example = small("quota")
    message, versions = refused["quota"]
    assert "exceeded quota: team, requested: requests.memory=2Gi" in message
    assert "raise the quota" in message
    assert example.column("PROGRESS") == "quota exceeded"
    writes_nothing(example, REFUSED["quota"], versions)
    example.patch("resourcequota/team", {"spec": {"hard": {"requests.memory": "4Gi"}}})
    assert imported(example)["status"]["training"]["attempt"] == 1
    assert stalled(example.update()) == {}
    example.end()


@pytest.mark.survives(
    "Jobs and pods",
    "admission accepts a Job and refuses its pods (LimitRange, policy)",
    "reported as PodsForbidden with the message of the admission within 30 s; nothing is "
    "written meanwhile; continues when the pods are accepted",
)
def test_pods_refused_by_admission_are_reported_with_its_message(small, refused):
    example = small("limits")
    message, versions = refused["limits"]
    assert "maximum memory usage per Container is 1Gi, but limit is 2Gi" in message
    assert example.column("PROGRESS") == "its pods are refused"
    writes_nothing(example, REFUSED["limits"], versions)
    example.show("delete", "limitrange/team")
    assert imported(example)["status"]["training"]["attempt"] == 1
    example.end()


@pytest.mark.survives(
    "Jobs and pods",
    "Pod Security accepts a Job and refuses its pods (a mesh puts a container into them)",
    "reported as PodsForbidden within 30 s, with the violated standard and the container; "
    "nothing is written meanwhile; continues when the pods are accepted",
)
def test_pods_refused_by_pod_security_are_reported_with_their_violation(small, refused):
    example = small("sidecar")
    message, versions = refused["sidecar"]
    assert 'violates PodSecurity "restricted:' in message
    assert 'container "mesh"' in message
    assert "NET_ADMIN" in message
    assert "disable what adds to them" in message
    assert example.column("PROGRESS") == "Pod Security refuses its pods"
    writes_nothing(example, REFUSED["sidecar"], versions)
    example.show("delete", "mutatingadmissionpolicy/small-sidecar")
    example.show("delete", "mutatingadmissionpolicybinding/small-sidecar")
    assert imported(example)["status"]["training"]["attempt"] == 1
    example.end()


@pytest.mark.survives(
    "Jobs and pods",
    "the trainer's image does not exist",
    "reported as ImagePullFailed with the image and the field; once training.image is "
    "corrected the waiting run is given up and another one starts",
)
def test_an_image_that_does_not_exist_is_named_and_a_corrected_spec_starts_another_run(small):
    example = small("image")
    message = reported(example, "ImagePullFailed")
    assert NO_SUCH_IMAGE in message
    assert "training.image" in message
    assert example.column("PROGRESS") == "image pull failed"
    example.edit({"training": {"image": example.cluster.trainer_image}})
    assert imported(example)["spec"]["number"] == 1
    given_up = example.generations()[0]["status"]
    assert (given_up["verdict"], given_up["reason"]) == ("Failed", "SpecChanged")
    example.end()


@pytest.mark.survives(
    "Jobs and pods",
    "training.compute.gpusPerNode is 1 and no node has a GPU",
    "status and the column Progress have the scheduler's message; continues when a node has a GPU",
)
def test_a_run_without_a_gpu_shows_the_message_of_the_scheduler_and_starts_when_there_is_one(
    small, gpus
):
    example = small("gpu")
    status = example.wait(
        lambda now: "nvidia.com/gpu" in now.get("progress", {}).get("waitingFor", ""),
        what="that it waits for a GPU",
    )
    assert "1 Insufficient nvidia.com/gpu" in status["progress"]["waitingFor"]
    assert status["phase"] == "Queued"
    column = example.column("PROGRESS")
    assert column.startswith("no node has a free ")
    assert column.endswith("nvidia.com/gpu")
    assert stalled(status) == {}, "waiting in a queue is no stall"
    gpus(1)
    example.wait(
        lambda now: now["lastRun"].get("verdict") == "Accepted",
        what="a verdict on what was trained with the GPU",
    )
    assert example.generations()[1]["status"]["training"]["attempt"] == 1
