"""What Jobs and pods say, in words for people; results only where they are the Job's own."""

import json

from springtide_operator.cluster.api.objects import moment
from springtide_operator.cluster.reading.observed_jobs import (
    lacks_pods,
    observed_job,
    observed_pod,
    why_no_pod,
    why_waiting,
)

NOON = "2026-03-01T12:00:00Z"


def pod(name="p", **status):
    return {"metadata": {"name": name, "uid": name, "creationTimestamp": NOON}, "status": status}


def ended(code, message="", reason="Completed", **status):
    state = {"terminated": {"exitCode": code, "message": message, "reason": reason}}
    return pod(containerStatuses=[{"name": "trainer", "state": state}], **status)


def job(**status):
    metadata = {"name": "j", "uid": "u", "creationTimestamp": NOON}
    return {"metadata": metadata, "spec": {}, "status": status}


def result(**changes):
    known = {"job": "j", "stage": "train", "ok": True}
    return json.dumps(known | changes)


def test_a_pod_without_a_gpu_says_so_first():
    said = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: not helpful."
    waiting = pod(conditions=[{"type": "PodScheduled", "status": "False", "message": said}])
    assert why_waiting(waiting) == f"no node has a free nvidia.com/gpu: {said}"


def test_a_pod_says_all_that_the_nodes_lack():
    said = "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu. no victims."
    waiting = pod(conditions=[{"type": "PodScheduled", "status": "False", "message": said}])
    assert why_waiting(waiting) == f"no node has a free cpu, nvidia.com/gpu: {said}"


def test_an_image_that_is_not_there_is_told_in_the_same_words_at_every_try():
    cause = 'failed to pull and unpack image "trainer:9": trainer:9: not found'
    first = f"rpc error: code = NotFound desc = {cause}"
    then = f'Back-off pulling image "trainer:9": ErrImagePull: {first}'
    for reason, message in (("ErrImagePull", first), ("ImagePullBackOff", then)):
        state = {"waiting": {"reason": reason, "message": message}}
        reported = why_waiting(pod(containerStatuses=[{"state": state}]))
        assert reported == f"image pull failed: {cause}"


def test_an_image_that_cannot_be_pulled_is_named():
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "trainer:9 not found"}}
    assert why_waiting(pod(containerStatuses=[{"state": state}])) == (
        "image pull failed: trainer:9 not found"
    )
    starting = {"waiting": {"reason": "ContainerCreating"}}
    assert why_waiting(pod(containerStatuses=[{"state": starting}])) == ""


def test_a_job_of_which_kueue_admitted_some_pods_lacks_none_of_the_others():
    raw = job()
    raw["spec"] = {"completions": 5, "parallelism": 2}
    assert lacks_pods(raw, [pod("a")])
    assert not lacks_pods(raw, [pod("a"), pod("b")])
    assert not lacks_pods(raw, [pod("a"), pod("b"), pod("c")]), "a is over"
    raw["spec"]["suspend"] = True
    assert not lacks_pods(raw, [])


def test_quota_and_pod_security_are_read_from_the_newest_event():
    def event(message, at):
        return {"reason": "FailedCreate", "message": message, "lastTimestamp": at}

    quota = 'Error creating: pods "x" is forbidden: exceeded quota: small, requested: cpu=4'
    security = 'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest"'
    events = [event(quota, "2026-03-01T12:00:00Z"), event(security, "2026-03-01T12:00:05Z")]
    assert why_no_pod(events).startswith("Pod Security refuses its pods: violates")
    assert why_no_pod(events[:1]) == "quota exceeded: exceeded quota: small, requested: cpu=4"
    assert why_no_pod([]) == ""


def test_evicted_and_killed_pods_are_told_apart():
    assert observed_pod(ended(137, reason="OOMKilled")).out_of_memory
    evicted = observed_pod(pod(reason="Evicted", phase="Failed", message="exceeds 1Gi"))
    said = (evicted.disrupted, evicted.reason, evicted.ended_for)
    assert said == (False, "Evicted", "exceeds 1Gi")
    target = {"type": "DisruptionTarget", "status": "True"}
    assert observed_pod(ended(143, conditions=[target])).disrupted


def test_when_a_container_started_and_ended_is_read_from_its_state():
    began, over = "2026-03-01T12:00:05Z", "2026-03-01T12:10:00Z"
    state = {"running": {"startedAt": began}}
    running = observed_pod(pod(phase="Running", containerStatuses=[{"name": "t", "state": state}]))
    assert (running.started, running.ended) == (moment(began), None)
    state = {"terminated": {"exitCode": 0, "startedAt": began, "finishedAt": over}}
    ended_one = observed_pod(pod(phase="Failed", containerStatuses=[{"name": "t", "state": state}]))
    assert (ended_one.started, ended_one.ended) == (moment(began), moment(over))
    unknown = {"terminated": {"exitCode": 137, "startedAt": None, "finishedAt": None}}
    gone = observed_pod(pod(phase="Failed", containerStatuses=[{"name": "t", "state": unknown}]))
    assert (gone.started, gone.ended, gone.exit_code) == (None, None, 137)


def test_a_container_that_an_injector_added_says_nothing_of_the_trainer():
    began, over = "2026-03-01T12:01:00Z", "2026-03-01T12:03:00Z"
    proxy = {"name": "proxy", "state": {"running": {"startedAt": NOON}}}
    trainer = {"name": "trainer", "state": {"running": {"startedAt": began}}}
    seen = observed_pod(pod(phase="Running", containerStatuses=[proxy, trainer]))
    assert (seen.started, seen.exit_code) == (moment(began), None)
    crashed = {"terminated": {"exitCode": 2, "startedAt": NOON, "finishedAt": began}}
    seen = observed_pod(
        pod(phase="Running", containerStatuses=[{**proxy, "state": crashed}, trainer])
    )
    assert (seen.ended, seen.exit_code) == (None, None)
    ended = {"terminated": {"exitCode": 1, "startedAt": began, "finishedAt": over}}
    seen = observed_pod(
        pod(phase="Running", containerStatuses=[proxy, {**trainer, "state": ended}])
    )
    assert (seen.running, seen.exit_code, seen.ended) == (True, 1, moment(over))


def test_the_digest_of_an_image_is_read_with_and_without_a_name_before_it():
    def of(image_id, name="trainer"):
        container = {"name": name, "imageID": image_id, "state": {"running": {}}}
        return observed_pod(pod(containerStatuses=[container])).image_digest

    known = f"sha256:{'0a' * 32}"
    assert of(known) == of(f"registry.example/trainer@{known}") == known
    assert of("") is of("trainer:1") is of(known, "sidecar") is None


def test_a_job_says_whether_it_was_suspended_by_the_operator_and_since_when():
    suspended = {"type": "Suspended", "status": "True", "lastTransitionTime": NOON}
    theirs = job(conditions=[suspended])
    theirs["spec"]["suspend"] = True
    theirs["metadata"]["annotations"] = {"springtide.dev/image": "trainer:1"}
    seen = observed_job(theirs, [], "")
    assert (seen.suspended, seen.suspended_by_us, seen.suspended_at) == (True, False, moment(NOON))
    ours = json.loads(json.dumps(theirs))
    ours["metadata"]["annotations"] = {"springtide.dev/suspended": "true"}
    assert observed_job(ours, [], "").suspended_by_us


def test_a_suspended_job_of_an_earlier_version_is_the_operators_to_resume():
    earlier = job()
    earlier["metadata"]["annotations"] = {"springtide.dev/spec-generation": "3"}
    assert not observed_job(earlier, [], "").suspended_by_us
    earlier["spec"]["suspend"] = True
    assert observed_job(earlier, [], "").suspended_by_us


def test_a_result_counts_only_where_it_is_whole_and_of_this_job():
    seen = observed_job(job(), [ended(0, result())], "")
    assert seen.result.ok
    for message in ("", "{", result(job="another"), result(pad="x" * 5000), '{"ok": NaN}', "[]"):
        assert observed_job(job(), [ended(0, message)], "").result is None


def test_labels_and_annotations_that_anybody_may_write_break_nothing():
    raw = job(conditions=[{"type": "Failed", "status": "True", "lastTransitionTime": NOON}])
    raw["metadata"]["labels"] = {"springtide.dev/generation": "²", "springtide.dev/attempt": "x"}
    numbers = {"springtide.dev/excluded-generations": f"4,six,6,-1,{'9' * 5000},"}
    raw["metadata"]["annotations"] = {"springtide.dev/cursor": "yesterday", **numbers}
    seen = observed_job(raw, [], "")
    assert (seen.number, seen.attempt, seen.cursor, seen.failed) == (None, 1, None, True)
    assert seen.excluded == frozenset({4, 6})


def test_a_job_says_since_when_it_may_run():
    def suspended(status, at):
        return {"type": "Suspended", "status": status, "lastTransitionTime": at}

    later, latest = "2026-03-01T14:00:00Z", "2026-03-01T14:00:01Z"
    assert observed_job(job(), [], "").resumed is None
    assert observed_job(job(startTime=NOON), [], "").resumed == moment(NOON)
    again = job(startTime=latest, conditions=[suspended("False", later)])
    assert observed_job(again, [], "").resumed == moment(latest)
    again = job(startTime=NOON, conditions=[suspended("False", later)])
    assert observed_job(again, [], "").resumed == moment(later)
    unseen = observed_job(job(conditions=[suspended("True", later)]), [], "")
    assert (unseen.suspended, unseen.resuming, unseen.resumed) == (False, True, None)


def test_a_job_says_what_placement_its_update_asked_for():
    raw = job()
    assert observed_job(raw, [], "").placement == ""
    raw["metadata"]["annotations"] = {"springtide.dev/placement": "sha256:1"}
    assert observed_job(raw, [], "").placement == "sha256:1"


def numbered(index, code, message=""):
    made = ended(code, message)
    made["metadata"] |= {
        "name": f"p{index}",
        "uid": f"p{index}",
        "labels": {"batch.kubernetes.io/job-completion-index": str(index)},
    }
    return made


def scored(**condition):
    conditions = [{"status": "True", "lastTransitionTime": NOON, **condition}] if condition else []
    made = job(conditions=conditions)
    made["metadata"]["labels"] = {"springtide.dev/stage": "evaluate"}
    made["spec"] = {"completions": 2, "completionMode": "Indexed"}
    return made


MEASURED = {
    "stage": "evaluate",
    "evaluate": {
        "rules": [],
        "candidateDigest": f"sha256:{1:064}",
        "holdoutDigest": f"sha256:{2:064}",
        "report": "file:///x",
    },
}


def test_an_evaluation_in_shards_has_the_result_of_its_first_pod():
    """The others end well, too, and say so; the newest pod is one of them."""
    pods = [numbered(0, 0, result(**MEASURED)), numbered(1, 0, result(stage="evaluate"))]
    for order in (pods, pods[::-1]):
        seen = observed_job(scored(type="Complete"), order, "")
        assert (seen.nodes, seen.is_job_set, seen.shares_rows) == (2, False, True)
        assert seen.result.evaluate is not None


def test_an_evaluation_in_shards_fails_with_what_its_failed_pod_says():
    why = {"reason": "DigestMismatch", "message": "m"}
    said = result(stage="evaluate", ok=False, failure=why)
    pods = [numbered(0, 0, result(stage="evaluate")), numbered(1, 3, said)]
    pods[0]["status"] = {"phase": "Running"}
    assert observed_job(scored(type="Failed"), pods, "").result.failure.reason == "DigestMismatch"
