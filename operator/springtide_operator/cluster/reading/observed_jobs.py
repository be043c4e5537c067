"""Jobs and their pods for an observation: what runs, how it ended, and why it waits."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from springtide_api import names
from springtide_api.contract import TERMINATION_LIMIT, Result
from springtide_operator.cluster.api.objects import controller_uid, moment, true_conditions, whole
from springtide_operator.lifecycle.nodes.pods import failed_first, first_pod
from springtide_operator.lifecycle.state.observed import ObservedJob, ObservedPod
from springtide_operator.manifests.job import CONTAINER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from springtide_operator.cluster.api.kinds import Raw

STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})

PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})

NOT_CREATED = frozenset({"CreateContainerConfigError", "CreateContainerError"})
"""Reasons of the kubelet while a container cannot be created, as for want of a Secret."""

_NAMED = re.compile(r'^pods "[^"]*" is forbidden: ')
"""Each attempt names another pod: without the name the same refusal has the same text."""

_BACK_OFF = re.compile(
    r'^(Back-off pulling image "[^"]*": )?(ErrImagePull: )?(rpc error: code = \w+ desc = )?'
)
"""The kubelet reports the cause with and without it: without it the same cause has one text."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}$")
"""The end of an imageID, with or without the image's name before it."""

_LACKS = re.compile(r"Insufficient ([^\s,.;]+(?:\.[^\s,.;]+)*)")


def lacks_pods(raw: Raw, pods: Sequence[Raw]) -> bool:
    """Whether a Job that may run has fewer pods than should run at a time.

    Kueue may have admitted fewer than there are completions; the others are created later.
    """
    spec = raw["spec"]
    at_a_time = min(int(spec.get(name) or 1) for name in ("completions", "parallelism"))
    return len(pods) < at_a_time and not spec.get("suspend") and not true_conditions(raw)


def observed_job(raw: Raw, pods: Iterable[Raw], problem: str) -> ObservedJob:
    """Read one Job.

    Args:
        raw: the Job.
        pods: its pods.
        problem: why it has no pod, from its events.
    """
    metadata = raw["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    ended = {each["type"]: each for each in true_conditions(raw)}
    end = ended.get("Complete") or ended.get("Failed")
    own = sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    seen = tuple(map(observed_pod, own))
    return ObservedJob(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=controller_uid(raw),
        stage=labels.get(names.LABEL_STAGE, ""),
        number=whole(labels.get(names.LABEL_GENERATION)),
        attempt=whole(labels.get(names.LABEL_ATTEMPT)) or 1,
        created=moment(metadata["creationTimestamp"]),
        succeeded="Complete" in ended,
        failed="Failed" in ended,
        finished=_since(end),
        failure=_failure(ended.get("Failed")),
        suspended=bool(raw["spec"].get("suspend")),
        suspended_by_us=_suspended_by_us(raw["spec"], annotations),
        queue=labels.get(names.LABEL_QUEUE, ""),
        suspended_at=_since(ended.get("Suspended")),
        resuming="Suspended" in ended and not raw["spec"].get("suspend"),
        resumed=_resumed(raw),
        deleting="deletionTimestamp" in metadata,
        image=annotations.get(names.ANNOTATION_IMAGE, ""),
        nodes=int(raw["spec"].get("completions") or 1),
        gpus=whole(annotations.get(names.ANNOTATION_GPUS)) or 0,
        placement=annotations.get(names.ANNOTATION_PLACEMENT, ""),
        request=annotations.get(names.ANNOTATION_REQUEST, ""),
        trigger=annotations.get(names.ANNOTATION_TRIGGER, ""),
        cursor=_cursor(annotations.get(names.ANNOTATION_CURSOR, "")),
        quarantined=frozenset(annotations.get(names.ANNOTATION_QUARANTINED, "").split(",")) - {""},
        excluded=_numbers(annotations.get(names.ANNOTATION_EXCLUDED, "")),
        probed=annotations.get(names.ANNOTATION_SPEC_DIGEST, ""),
        spec_generation=whole(annotations.get(names.ANNOTATION_SPEC_GENERATION)) or 0,
        pods=seen,
        problem=problem,
        result=_result(metadata["name"], seen, own),
    )


def observed_pod(raw: Raw) -> ObservedPod:
    """Read one pod of a Job of ours."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    ended, runs = _state(raw, "terminated") or {}, _state(raw, "running") or {}
    started = ended.get("startedAt") or runs.get("startedAt")
    disrupted = conditions.get("DisruptionTarget", {}).get("status") == "True"
    reason = str(status.get("reason") or "") if status.get("phase") == "Failed" else ""
    return ObservedPod(
        name=metadata["name"],
        uid=metadata["uid"],
        created=moment(metadata["creationTimestamp"]),
        index=whole((metadata.get("labels") or {}).get(names.LABEL_INDEX)) or 0,
        scheduled=conditions.get("PodScheduled", {}).get("status") == "True",
        running=status.get("phase") == "Running",
        started=moment(started) if started else None,
        ended=moment(ended["finishedAt"]) if ended.get("finishedAt") else None,
        image_digest=_image_digest(raw),
        exit_code=ended.get("exitCode"),
        out_of_memory=ended.get("reason") == "OOMKilled",
        disrupted=disrupted,
        reason=reason,
        ended_for=str(status.get("message") or "") if reason else "",
        waiting=why_waiting(raw),
    )


def why_waiting(raw: Raw) -> str:
    """Return why a pod does not run yet, as scheduler or kubelet report it; empty: it starts."""
    status = raw.get("status") or {}
    for each in status.get("conditions") or []:
        if each["type"] == "PodScheduled" and each["status"] == "False":
            text = str(each.get("message") or each.get("reason") or "")
            lacks = ", ".join(dict.fromkeys(_LACKS.findall(text)))
            head = f"no node has a free {lacks}" if lacks else "no node fits"
            return f"{head}: {text}"
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        if reason not in STARTING:
            text = str(waiting.get("message") or container.get("image") or "")
            if reason in PULLING:
                return f"image pull failed: {_BACK_OFF.sub('', text)}"
            return f"{reason}: {text}"
    return ""


def why_no_pod(events: Iterable[Raw]) -> str:
    """Return why a Job has no pod, from its events: the newest refusal."""
    refused = [event for event in events if event.get("reason") == "FailedCreate"]
    if not refused:
        return ""
    newest = max(refused, key=lambda event: str(event.get("lastTimestamp") or ""))
    return why_refused(str(newest.get("message") or "").removeprefix("Error creating: "))


def why_refused(message: str) -> str:
    """Return what refuses a pod, from the message of the API server."""
    text = _NAMED.sub("", message)
    if "exceeded quota" in text:
        return f"quota exceeded: {text}"
    if "violates PodSecurity" in text:
        return f"Pod Security refuses its pods: {text}"
    return f"its pods are refused: {text}"


def _suspended_by_us(spec: dict[str, Any], annotations: dict[str, str]) -> bool:
    """Whether it is ours to resume: an earlier version noted neither that nor the image."""
    noted = annotations.get(names.ANNOTATION_SUSPENDED) == "true"
    return noted or (bool(spec.get("suspend")) and names.ANNOTATION_IMAGE not in annotations)


def _since(condition: dict[str, Any] | None) -> datetime | None:
    return moment(condition["lastTransitionTime"]) if condition else None


def _resumed(raw: Raw) -> datetime | None:
    status = raw.get("status") or {}
    known = [status.get("startTime")]
    known += [
        each.get("lastTransitionTime")
        for each in status.get("conditions") or []
        if each["type"] == "Suspended" and each["status"] == "False"
    ]
    return max((moment(each) for each in known if each), default=None)


def _cursor(text: str) -> datetime | None:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read if read.tzinfo else None


def _numbers(text: str) -> frozenset[int]:
    """Read the numbers of an annotation, which any client may have written."""
    read = map(whole, text.split(","))
    return frozenset(each for each in read if each is not None)


def _failure(condition: dict[str, Any] | None) -> str:
    if condition is None:
        return ""
    return f"{condition.get('reason', 'Failed')}: {condition.get('message', '')}".rstrip(": ")


def _image_digest(raw: Raw) -> str | None:
    for container in (raw.get("status") or {}).get("containerStatuses") or []:
        if container.get("name") == CONTAINER:
            found = _DIGEST.search(str(container.get("imageID") or ""))
            return found.group() if found else None
    return None


def _state(raw: Raw, name: str) -> dict[str, Any] | None:
    """Return the state of that name, running or terminated, if the trainer's container is in it.

    Others are those that an injector, such as of a service mesh, has added.
    """
    statuses = (raw.get("status") or {}).get("containerStatuses") or []
    for container in [c for c in statuses if c.get("name") == CONTAINER] or statuses:
        state = (container.get("state") or {}).get(name)
        if state is not None:
            return dict(state)
    return None


def _result(job: str, pods: Sequence[ObservedPod], raw: Sequence[Raw]) -> Result | None:
    """What the newest pod says; of several, the first if it ended well, else one that failed."""
    if not any(pod.index for pod in pods):
        return read_result(job, raw)
    known = {pod["metadata"]["uid"]: pod for pod in raw}
    first, failed = first_pod(pods), failed_first(pods)
    made = read_result(job, [known[first.uid]]) if first else None
    if (made is not None and made.ok) or failed is None:
        return made
    return read_result(job, [known[failed.uid]])


def read_result(job: str, pods: Sequence[Raw]) -> Result | None:
    """Read the newest pod's termination message: bounded, well-formed and of exactly this Job."""
    for pod in reversed(pods):
        message = str((_state(pod, "terminated") or {}).get("message") or "")
        if not message or len(message.encode()) > TERMINATION_LIMIT:
            continue
        try:
            result = Result.model_validate_json(message)
        except ValidationError:
            continue
        if result.job == job:
            return result
    return None
