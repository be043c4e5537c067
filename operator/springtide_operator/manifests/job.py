"""The Job of one attempt at one stage, restricted, without an API token.

It has one pod, but where several share rows: an Indexed Job, whose pods know their numbers.

The run file travels in an annotation of the pod template and is mounted by the downward API, so it
comes with the Job in one write. Claims are mounted where their URIs say, data read-only; the
credentials of an object store stay in their Secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide_api.names import (
    ANNOTATION_CURSOR,
    ANNOTATION_EXCLUDED,
    ANNOTATION_FEWEST,
    ANNOTATION_GPUS,
    ANNOTATION_IMAGE,
    ANNOTATION_PLACEMENT,
    ANNOTATION_QUARANTINED,
    ANNOTATION_REQUEST,
    ANNOTATION_RUN,
    ANNOTATION_SPEC_DIGEST,
    ANNOTATION_SPEC_GENERATION,
    ANNOTATION_TRIGGER,
    LABEL_ATTEMPT,
    LABEL_QUEUE,
    LABEL_STAGE,
    PROGRESS_AUDIENCE,
    PROGRESS_TOKEN_FILE,
    PROGRESS_TOKEN_FOLDER,
    RENDEZVOUS_PORT,
    RUN_FILE,
    RUN_FOLDER,
    first_pod_host,
)
from springtide_api.schema import duration, hub_repository
from springtide_operator.lifecycle.state.recipe import probe_digest
from springtide_operator.manifests.identity import labels, owner_reference
from springtide_operator.manifests.job_pods import PLAIN, JobPods

if TYPE_CHECKING:
    from springtide_api.contract import ProbeInput, RunFile
    from springtide_api.objects import Meta
    from springtide_operator.lifecycle.state.plan import StartJob

CONTAINER = "trainer"
NON_ROOT_UID = 65532
LIGHT = {"cpu": "1", "memory": "2Gi"}
"""Limits of stages that hold no model: probe, tokenize, collect."""
TOKEN_SECONDS = 3600
CUBLAS_WORKSPACE = ":4096:8"
"""With this, equal products of matrices are bit-identical on a GPU."""
GRACE_SECONDS = 60
"""Time for a checkpoint after SIGTERM."""
DISRUPTED = [{"type": "DisruptionTarget", "status": "True"}]
DISRUPTIONS = {"rules": [{"action": "FailJob", "onPodConditions": DISRUPTED}]}
"""An evicted pod is gone before its Job has failed: with this rule the Job reports the cause."""
REPLACED = {"rules": [{"action": "Ignore", "onPodConditions": DISRUPTED}]}
"""For a Job without a next attempt: another pod takes the place of an evicted one."""


def job(
    update: Meta,
    start: StartJob,
    progress_url: str,
    *,
    hub_endpoint: str = "",
    pods: JobPods = PLAIN,
) -> dict[str, Any]:
    """The Job that does `start.run`, with what the installation adds to all of them.

    Args:
        update: The update that owns it.
        start: The attempt.
        progress_url: Where the pod reports its progress.
        hub_endpoint: The hub that initial models come from.
        pods: What the installation adds to the pods.
    """
    run = start.run
    known, queue = _labels_of(update, start, pods)
    pod = {
        **_pod(start, progress_url, hub_endpoint),
        **pods.pod(start.placement),
        **_account(run),
    }
    file = {ANNOTATION_RUN: run.model_dump_json(by_alias=True, exclude_none=True)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": run.job,
            "namespace": update.namespace,
            "labels": known | ({LABEL_QUEUE: queue} if queue else {}),
            "annotations": _annotations(update, start) | _fewest(start, queue),
            "ownerReferences": [owner_reference(update)],
        },
        "spec": {
            "backoffLimit": 0,
            "podFailurePolicy": REPLACED if run.stage == "tokenize" else DISRUPTIONS,
            **_completions(start),
            "podReplacementPolicy": "Failed",
            **({"suspend": True} if queue else {}),  # it runs once Kueue admits it
            **_bound(run),
            "template": {"metadata": {"labels": known, "annotations": file}, "spec": pod},
        },
    }


def _completions(start: StartJob) -> dict[str, Any]:
    """How many pods there are, all at one time; those that share rows have numbers."""
    sharing = _sharing(start.run)
    pods = max(start.nodes, sharing)
    mode = {"completionMode": "Indexed"} if sharing > 1 else {}
    return {"completions": pods, "parallelism": pods, **mode}


def _sharing(run: RunFile) -> int:
    """How many pods share the rows of a stage."""
    asked = run.evaluate or run.tokenize
    return asked.pods if asked else 1


def _fewest(start: StartJob, queue: str | None) -> dict[str, str]:
    """Let Kueue admit some of the pods that share rows: they do not wait for each other.

    Without it Kueue never admits more pods than the whole quota has GPUs or CPUs for.
    """
    return {ANNOTATION_FEWEST: "1"} if queue and _sharing(start.run) > 1 else {}


def _labels_of(update: Meta, start: StartJob, pods: JobPods) -> tuple[dict[str, str], str | None]:
    """Return the labels of an attempt's Job and pods, and its queue, a label of the Job alone."""
    known = {
        **pods.labels,
        **(start.placement.pod_labels if start.placement else {}),
        **labels(update, start.run.number),
        LABEL_STAGE: start.run.stage,
        LABEL_ATTEMPT: str(start.run.attempt),
    }
    of_installation = known.pop(LABEL_QUEUE, None)
    return known, (start.placement and start.placement.queue_name) or of_installation


def _bound(run: RunFile) -> dict[str, int]:
    """Limit the whole time of a Job that waits for no GPU and has no record in a status.

    For the others the operator counts running time: a deadline of a Job includes waiting.
    """
    if run.stage not in {"probe", "tokenize", "collect"}:
        return {}
    deadline = duration(run.recipe.training.limits.active_deadline)
    return {"activeDeadlineSeconds": max(int(deadline.total_seconds()), 1)}


def _annotations(update: Meta, start: StartJob) -> dict[str, str]:
    known = {
        ANNOTATION_SPEC_GENERATION: str(update.generation),
        ANNOTATION_IMAGE: start.image,
    }
    if start.gpus:
        known[ANNOTATION_GPUS] = str(start.gpus)
    if start.placement and (placement := start.placement.digest()):
        known[ANNOTATION_PLACEMENT] = placement
    if start.trigger:
        known[ANNOTATION_TRIGGER] = start.trigger
    if start.request:
        known[ANNOTATION_REQUEST] = start.request
    if start.run.probe:
        known[ANNOTATION_SPEC_DIGEST] = probe_digest(start.run.recipe)
        known |= _asked(start.run.probe)
    return known


def _asked(probe: ProbeInput) -> dict[str, str]:
    """What a probe began with: its result is discarded once it differs."""
    known: dict[str, str] = {}
    if probe.cursor:
        known[ANNOTATION_CURSOR] = probe.cursor.isoformat()
    if probe.quarantined:
        known[ANNOTATION_QUARANTINED] = ",".join(probe.quarantined)
    if probe.excluded_generations:
        known[ANNOTATION_EXCLUDED] = ",".join(map(str, probe.excluded_generations))
    return known


def _pod(start: StartJob, progress_url: str, hub_endpoint: str) -> dict[str, Any]:
    run, compute = start.run, start.run.recipe.training.compute
    volumes, mounts = _volumes(start)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NON_ROOT_UID,
            "runAsGroup": NON_ROOT_UID,
            "fsGroup": NON_ROOT_UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": start.image,
                "command": ["python", "-m", "springtide_trainer"],
                "env": _environment(start, progress_url, hub_endpoint),
                **_credentials(run),
                "resources": _resources(start),
                "volumeMounts": mounts,
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "volumes": volumes,
    }
    if run.stage in {"train", "evaluate"}:
        if compute.node_selector:
            pod["nodeSelector"] = dict(compute.node_selector)
        if compute.tolerations:
            pod["tolerations"] = [toleration.plain() for toleration in compute.tolerations]
        if compute.priority_class_name:
            pod["priorityClassName"] = compute.priority_class_name
    return pod


def _resources(start: StartJob) -> dict[str, Any]:
    compute = start.run.recipe.training.compute
    match start.run.stage:
        case "train" | "evaluate":
            limits = {"cpu": compute.resources.cpu, "memory": compute.resources.memory}
            requests = dict(limits)
        case "import":
            limits = LIGHT | {"memory": compute.import_memory}
            requests = {"cpu": "100m", "memory": compute.import_memory}
        case "tokenize":
            limits, requests = dict(LIGHT), {"cpu": "1", "memory": "1Gi"}
        case _:
            limits, requests = dict(LIGHT), {"cpu": "100m", "memory": "512Mi"}
    if start.gpus:
        gpu = compute.gpu.resource_name
        limits[gpu] = requests[gpu] = str(start.gpus)
    return {"limits": limits, "requests": requests}


def _environment(start: StartJob, progress_url: str, hub_endpoint: str) -> list[dict[str, Any]]:
    run = start.run
    progress = f"{progress_url}/progress/{run.namespace}/{run.job}"
    plain = {
        "SPRINGTIDE_RUN_FILE": RUN_FILE,
        "KUBEFLOW_TRAINER_SERVER_URL": progress,
        "KUBEFLOW_TRAINER_SERVER_TOKEN": PROGRESS_TOKEN_FILE,
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if run.imported and hub_repository(run.imported.uri):
        plain["HF_ENDPOINT"] = hub_endpoint  # wins over a key of the Secret
    if start.gpus and run.recipe.training.hyperparameters.deterministic:
        plain["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACE
    if start.nodes > 1:
        plain["SPRINGTIDE_NODES"] = str(start.nodes)
        plain["SPRINGTIDE_RENDEZVOUS"] = f"{first_pod_host(run.job)}:{RENDEZVOUS_PORT}"
    return [
        *({"name": name, "value": value} for name, value in plain.items()),
        {
            "name": "SPRINGTIDE_POD_UID",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}},
        },
        {
            "name": "OMP_NUM_THREADS",
            "valueFrom": {
                "resourceFieldRef": {"containerName": CONTAINER, "resource": "limits.cpu"}
            },
        },
    ]


def _credentials(run: RunFile) -> dict[str, Any]:
    """Take all keys of the Secrets as variables; ours win over those of the same name.

    A key of the data wins over one of the tracking, whose Secret may be absent.
    """
    tracking, data = run.tracking and run.tracking.secret_name, run.recipe.data.secret_name
    refs: list[dict[str, Any]] = [{"name": tracking, "optional": True}] if tracking else []
    refs += [{"name": data}] if data else []
    return {"envFrom": [{"secretRef": each} for each in refs]} if refs else {}


def _account(run: RunFile) -> dict[str, str]:
    """Run as the update's own service account, if it names one, not as the installation's."""
    name = run.recipe.data.service_account_name
    return {"serviceAccountName": name} if name else {}


def _volumes(start: StartJob) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and their mounts; one claim that holds storage and data is mounted at both places."""
    storage, data = start.run.recipe.storage, start.run.recipe.data.volume
    run_file = {"path": RUN_FILE.rsplit("/", 1)[-1], "fieldRef": _template_annotation()}
    token = {"audience": PROGRESS_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    volumes: list[dict[str, Any]] = [
        {"name": "run", "downwardAPI": {"items": [run_file]}},
        {"name": "progress", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(start)}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "run", "mountPath": RUN_FOLDER, "readOnly": True},
        {"name": "progress", "mountPath": PROGRESS_TOKEN_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    if storage.volume is not None:
        claim = {"claimName": storage.volume.claim_name}
        volumes.append({"name": "storage", "persistentVolumeClaim": claim})
        path = storage.uri.removeprefix("file://").rstrip("/")
        mounts.append({"name": "storage", "mountPath": path})
    if data is not None:
        shared = storage.volume is not None and data.claim_name == storage.volume.claim_name
        read_only = {} if shared else {"readOnly": True}
        source = {"claimName": data.claim_name, **read_only}
        volumes.append({"name": "data", "persistentVolumeClaim": source})
        mounts.append({"name": "data", "mountPath": data.mount_path, "readOnly": True})
    return volumes, mounts


def _template_annotation() -> dict[str, str]:
    return {"fieldPath": f"metadata.annotations['{ANNOTATION_RUN}']"}


def _shared_memory(start: StartJob) -> str:
    given = start.run.recipe.training.compute.shared_memory
    return given or ("1Gi" if start.gpus > 1 else "64Mi")
