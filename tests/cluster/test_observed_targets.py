"""What a user's Deployment and its newest pods show during a rollout."""

from datetime import datetime

import pytest

from springtide_api.update.rollout import Target
from springtide_operator.cluster.reading.observed_targets import (
    claim_names,
    not_copied,
    observed_target,
)
from springtide_operator.lifecycle.rollout.availability import new_pods

NOON = "2026-03-01T12:00:00Z"
TARGET = Target.model_validate({"targetRef": {"name": "ranker"}, "container": "server"})


def deployment(**status):
    template = {"metadata": {}, "spec": {"containers": [{"name": "server"}]}}
    metadata = {"name": "ranker", "uid": "u", "generation": 2}
    return {
        "metadata": metadata,
        "spec": {"replicas": 2, "template": template},
        "status": {"observedGeneration": 2, **status},
    }


def pod(*, ready, **container):
    conditions = [{"type": "Ready", "status": str(ready)}]
    statuses = [{"name": "server", "ready": ready, **container}]
    status = {"conditions": conditions, "containerStatuses": statuses}
    return {"metadata": {"name": "p", "creationTimestamp": NOON}, "status": status}


def seen(raw, *pods):
    return observed_target(TARGET, raw, "shop", replica_sets=[], pods=pods)


def test_no_progress_is_reported_with_its_time():
    report = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    stalled = seen(deployment(conditions=[{**report, "status": "False", "lastUpdateTime": NOON}]))
    assert (stalled.stalled, stalled.stalled_at) == ("timed out", datetime.fromisoformat(NOON))
    for conditions in ([], [{**report, "status": "True", "lastUpdateTime": NOON}]):
        goes_on = seen(deployment(conditions=conditions))
        assert (goes_on.stalled, goes_on.stalled_at) == ("", None)


def test_available_pods_of_the_old_template_are_not_taken_for_new_ones():
    rolling = deployment(replicas=3, updatedReplicas=1, availableReplicas=2, unavailableReplicas=1)
    assert new_pods(seen(rolling, pod(ready=False))) == 0
    assert new_pods(seen(rolling)) == 0
    done = deployment(replicas=2, updatedReplicas=2, availableReplicas=2)
    assert new_pods(seen(done)) == 2


def test_new_pods_count_where_the_old_ones_were_never_available():
    rolling = deployment(replicas=3, updatedReplicas=1, availableReplicas=1, unavailableReplicas=2)
    assert new_pods(seen(rolling, pod(ready=True))) == 1


def test_how_a_crashing_container_ended_is_told_rather_than_that_it_waits():
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "no library\n"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}}
    crashing = pod(ready=False, lastState=ended, state=waiting)
    reported = seen(deployment(unavailableReplicas=1), crashing).trouble
    assert reported.startswith("container server ended with code 1: no library")
    new = pod(ready=False, state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    assert seen(deployment(unavailableReplicas=1), new).trouble == "image pull failed: not found"


@pytest.mark.parametrize(
    ("reason", "begins"),
    [
        ("ImagePullBackOff", "image pull failed: "),
        ("CreateContainerConfigError", "CreateContainerConfigError: "),
        ("CreateContainerError", "CreateContainerError: "),
    ],
)
def test_a_container_that_cannot_be_started_again_waits_for_others_and_does_not_fail(
    reason, begins
):
    """As after a restart of its node, while a Secret or the registry is gone."""
    ended = {"terminated": {"exitCode": 137, "reason": "Error"}}
    waits = {"waiting": {"reason": reason, "message": "not found"}}
    lagging, stopped = (
        deployment(unavailableReplicas=1),
        pod(ready=False, lastState=ended, state=waits),
    )
    assert seen(lagging, stopped).trouble == f"{begins}not found"
    assert seen(lagging, stopped).failing == 0


def of_init_container(name, *, phase="Pending", **status):
    """A pod whose server waits for an init container, as the kubelet reports it."""
    waits = {"name": "server", "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
    conditions = [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]
    first = [{"name": name, "ready": False, **status}]
    statuses = {"initContainerStatuses": first, "containerStatuses": [waits]}
    status = {"phase": phase, "conditions": conditions, **statuses}
    return {"metadata": {"name": "p"}, "status": status}


def test_an_init_container_or_a_sidecar_that_ends_or_waits_is_named():
    ended = {"terminated": {"exitCode": 2, "reason": "Error", "message": "no queries.jsonl"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}}
    said = "init container warm-up ended with code 2: no queries.jsonl"
    lagging = deployment(unavailableReplicas=1)
    crashing = of_init_container("warm-up", lastState=ended, state=waiting)
    assert seen(lagging, crashing).trouble == said
    first = of_init_container("warm-up", state=ended)
    assert seen(lagging, first).trouble == said, "before it is restarted for the first time"
    missing = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    pulling = of_init_container("warm-up", state=missing)
    assert seen(lagging, pulling).trouble == "image pull failed: not found"
    config = {"waiting": {"reason": "CreateContainerConfigError", "message": "no secret x"}}
    refused = of_init_container("warm-up", state=config)
    assert seen(lagging, refused).trouble == "CreateContainerConfigError: no secret x"


def test_an_init_container_that_is_done_or_a_server_that_ended_first_is_no_cause_of_its_own():
    lagging = deployment(unavailableReplicas=1)
    done = of_init_container("fetch", ready=True, state={"terminated": {"exitCode": 0}})
    assert seen(lagging, done).trouble == ""
    ended = {"terminated": {"exitCode": 3, "reason": "Error"}}
    crashing = of_init_container("warm-up", lastState=ended)
    crashing["status"]["containerStatuses"] = [
        {"name": "server", "ready": False, "lastState": {"terminated": {"exitCode": 1}}}
    ]
    assert seen(lagging, crashing).trouble == "container server ended with code 1: no message"


def test_containers_that_end_with_their_pod_are_no_crash():
    ended = {"terminated": {"exitCode": 143, "reason": "Error"}}
    lagging, evicted = deployment(unavailableReplicas=1), pod(ready=False, state=ended)
    assert "ended with code 143" in seen(lagging, evicted).trouble
    evicted["status"]["phase"] = "Failed"
    assert seen(lagging, evicted).trouble == ""
    deleted = pod(ready=False, state=ended)
    deleted["metadata"]["deletionTimestamp"] = NOON
    assert seen(lagging, deleted).trouble == ""


def test_pods_of_a_lost_node_are_told_from_pods_that_are_not_ready():
    """The node controller changes one condition of such a pod, and gives it no reason."""
    lagging, lost = deployment(unavailableReplicas=1), pod(ready=True, state={"running": {}})
    ready = {"type": "Ready", "status": "False"}
    lost["status"]["conditions"] = [ready, {"type": "ContainersReady", "status": "True"}]
    lost["status"]["hostIP"] = "10.0.0.3"
    assert seen(lagging, lost).trouble == "node lost: node 10.0.0.3 reports nothing any more"
    lost["status"]["conditions"][0] = {**ready, "reason": "ReadinessGatesNotReady"}
    assert seen(lagging, lost).trouble == ""


def test_a_quota_that_refuses_the_pods_is_read_from_the_deployment():
    message = 'pods "ranker-5d4f-x" is forbidden: exceeded quota: team, requested: pods=1'
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    raw = deployment(unavailableReplicas=1, conditions=[{**refused, "message": message}])
    assert seen(raw).trouble == "quota exceeded: exceeded quota: team, requested: pods=1"
    crashed = {"terminated": {"exitCode": 1, "reason": "Error"}}
    assert "ended with code 1" in seen(raw, pod(ready=False, lastState=crashed)).trouble


def test_pods_whose_serving_container_started_and_is_not_ready_fail():
    """A pod without a node or an image never started; of a lost node nothing is reported."""
    ended = {"terminated": {"exitCode": 1}}
    backing_off = {"waiting": {"reason": "CrashLoopBackOff"}}
    failing = [
        pod(ready=False, lastState=ended, state=backing_off),
        pod(ready=False, state=ended),
        pod(ready=False, state={"running": {}}),
    ]
    lost = pod(ready=True, state={"running": {}})
    lost["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    unscheduled = {"metadata": {"name": "p"}, "status": {}}
    sidecar = pod(ready=True, state={"running": {}})
    sidecar["status"]["containerStatuses"] += [{"name": "mesh", "ready": False, "state": ended}]
    removed = pod(ready=False, state={"running": {}})
    removed["metadata"]["deletionTimestamp"] = NOON
    image = pod(ready=False, state={"waiting": {"reason": "ErrImagePull"}})
    others = [lost, unscheduled, sidecar, removed, image, pod(ready=True)]
    assert seen(deployment(unavailableReplicas=2), *failing, *others).failing == len(failing)


def changed(raw, **container):
    template = raw["spec"]["template"]
    (server,) = template["spec"]["containers"]
    return {
        **raw,
        "spec": {
            **raw["spec"],
            "template": {**template, "spec": {"containers": [{**server, **container}]}},
        },
    }


def test_what_we_set_ourselves_is_no_change_of_the_owner_s_template():
    before = seen(deployment()).template
    ours = [{"name": "MODEL_URI", "value": "file:///m"}, {"name": "MODEL_DIGEST", "value": "d"}]
    applied = changed(deployment(), env=ours)
    applied["spec"]["template"]["metadata"] = {
        "labels": {"springtide.dev/generation": "1"},
        "annotations": {"springtide.dev/digest": "d"},
    }
    assert seen(applied).template == before
    assert seen(changed(deployment(), image="other")).template != before
    more = [*ours, {"name": "LOG_LEVEL", "value": "info"}]
    assert seen(changed(deployment(), env=more)).template != before
    restarted = deployment()
    restarted["spec"]["template"]["metadata"] = {"annotations": {"restartedAt": NOON}}
    assert seen(restarted).template != before


def test_whoever_changed_the_template_last_is_named():
    def entry(manager, time, field):
        return {"manager": manager, "time": time, "fieldsV1": {"f:spec": {field: {}}}}

    raw = deployment()
    raw["metadata"]["managedFields"] = [
        entry("kubectl-set", "2026-03-01T12:00:00Z", "f:template"),
        entry("helm", "2026-03-01T11:00:00Z", "f:template"),
        entry("springtide:shop", "2026-03-01T13:00:00Z", "f:template"),
        entry("autoscaler", "2026-03-01T14:00:00Z", "f:replicas"),
    ]
    assert seen(raw).changed_by == "kubectl-set"


def test_what_pods_of_one_node_alone_can_have_is_not_copied_to_a_canary():
    claim = {"metadata": {"name": "cache"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    shared = {"metadata": {"name": "models"}, "spec": {"accessModes": ["ReadOnlyMany"]}}
    raw = deployment()
    spec = raw["spec"]["template"]["spec"]
    assert not_copied(raw, [shared]) == ""
    assert "PersistentVolumeClaim cache is ReadWriteOnce" in not_copied(raw, [shared, claim])
    spec["volumes"] = [{"persistentVolumeClaim": {"claimName": "cache"}}, {"emptyDir": {}}]
    assert claim_names(raw) == ["cache"]
    spec["containers"][0]["ports"] = [{"containerPort": 80}, {"hostPort": 8080}]
    assert not_copied(raw, []) == "its container server uses hostPort 8080"
    sidecar = {
        "name": "mesh",
        "restartPolicy": "Always",
        "ports": spec["containers"][0].pop("ports"),
    }
    spec["initContainers"] = [sidecar]
    assert not_copied(raw, []) == "its container mesh uses hostPort 8080"
    spec["hostNetwork"] = True
    assert "hostNetwork" in not_copied(raw, [])


@pytest.mark.survives(
    "Deployments",
    "the template of a target has a variable, a port or a pull secret twice",
    "`CanaryNotPossible` names it before the first step: no apply of a copy would be accepted",
)
@pytest.mark.parametrize(
    ("place", "field", "entries", "named"),
    [
        ("containers", "env", [{"name": "LOG", "value": "a"}, {"name": "LOG"}], "server has LOG"),
        (
            "containers",
            "ports",
            [{"containerPort": 80, "name": "a"}, {"containerPort": 80, "protocol": "TCP"}],
            "server has 80 TCP",
        ),
        ("initContainers", "env", [{"name": "LOG"}, {"name": "LOG"}], "init has LOG"),
        ("", "imagePullSecrets", [{"name": "hub"}, {"name": "hub"}], "template has hub"),
    ],
)
def test_what_no_apply_may_have_twice_is_not_copied_to_a_canary(place, field, entries, named):
    raw = deployment()
    spec = raw["spec"]["template"]["spec"]
    spec["initContainers"] = [{"name": "init"}]
    holder = spec[place][0] if place else spec
    holder[field] = [entries[0], {**entries[1], **dict.fromkeys(entries[1], "other")}]
    assert not_copied(raw, []) == ""
    holder[field] = entries
    assert named in not_copied(raw, [])
    assert f"twice in {field}" in not_copied(raw, [])
