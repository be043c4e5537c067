"""Public names: group, kinds, labels, annotations, paths and the names of created objects.

Names of objects are derived from update uid, generation number, stage and attempt. An operator that
restarts after a crash computes the same names and creates nothing twice.
"""

from __future__ import annotations

import hashlib
import re

GROUP = "springtide.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
UPDATE_KIND, UPDATES, UPDATE_SHORT = "IncrementalUpdate", "incrementalupdates", "iu"
GENERATION_KIND, GENERATIONS, GENERATION_SHORT = "ModelGeneration", "modelgenerations", "mg"

FIELD_MANAGER = "springtide-operator"

LABEL_UPDATE = f"{GROUP}/update"
LABEL_UPDATE_UID = f"{GROUP}/update-uid"
LABEL_GENERATION = f"{GROUP}/generation"
LABEL_ROLE = f"{GROUP}/role"
LABEL_CANARY = f"{GROUP}/canary"
"""On the pods of a canary with traffic Gateway: the name of its Deployment."""
LABEL_STAGE = f"{GROUP}/stage"
LABEL_ATTEMPT = f"{GROUP}/attempt"

ANNOTATION_REQUEST = f"{GROUP}/request"
ANNOTATION_NUMBER = f"{GROUP}/number"
ANNOTATION_UPDATE_UID = f"{GROUP}/update-uid"
ANNOTATION_DIGEST = f"{GROUP}/digest"
ANNOTATION_RUN = f"{GROUP}/run"
"""On a pod template of Springtide: the run file, mounted by the downward API."""
ANNOTATION_PROBE = f"{GROUP}/probe"
"""On a generation: uid of the probe Job that found its data."""

ANNOTATION_TRIGGER = f"{GROUP}/trigger"
"""On a probe: what started it."""
ANNOTATION_CURSOR = f"{GROUP}/cursor"
"""On a probe: start of its window."""
ANNOTATION_QUARANTINED = f"{GROUP}/quarantined"
"""On a probe: quarantined partitions that it leaves out, separated by commas."""
ANNOTATION_EXCLUDED = f"{GROUP}/excluded-generations"
"""On a probe: generations whose rows it leaves out, separated by commas."""
ANNOTATION_SPEC_DIGEST = f"{GROUP}/spec-digest"
"""On a probe: digest of the part of the spec that it depends on."""
ANNOTATION_SPEC_GENERATION = f"{GROUP}/spec-generation"
"""On a Job: metadata.generation of the update when the Job was created."""

ANNOTATION_SUSPENDED = f"{GROUP}/suspended"
"""On a Job: "true" if the operator suspended it; on a Workload of Kueue: if it deactivated it. It
resumes and activates only what has this annotation."""
ANNOTATION_RESUMED = f"{GROUP}/resumed"
"""On a Workload: when the operator activated it again. The time before is no waiting time."""
ANNOTATION_GPUS = f"{GROUP}/gpus"
"""On a Job: GPUs of its pod; on a JobSet: of each pod."""
ANNOTATION_NODES = f"{GROUP}/nodes"
"""On a JobSet: its pods, one for each node."""
ANNOTATION_PLACEMENT = f"{GROUP}/placement"
"""On a Job: digest of the placement that its update asked for; absent where it asked for none."""
ANNOTATION_IMAGE = f"{GROUP}/image"
"""On a Job: image name of its pod."""

LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
"""On a Job: the LocalQueue through which Kueue admits it. Kueue alone suspends and resumes it."""
ANNOTATION_FEWEST = "kueue.x-k8s.io/job-min-parallelism"
"""On a Job whose pods share rows: how many of them Kueue may admit where the quota has no place for
all. It lowers `parallelism`; the others run when these have ended."""
LABEL_JOB_UID = "kueue.x-k8s.io/job-uid"
"""On a Workload: the uid of its Job. Workloads have no label of ours."""

LABEL_JOB_SET_UID = "jobset.sigs.k8s.io/jobset-uid"
"""On the pods of a JobSet: its uid."""
LABEL_INDEX = "batch.kubernetes.io/job-completion-index"
"""On a pod of an Indexed Job: its number, from 0."""
REPLICATED_JOB = "node"
"""Name of the one Job of a JobSet, a part of the names of its pods."""
RENDEZVOUS_PORT = 29500
"""Of the first pod of a JobSet: where the processes of all pods find each other."""

ANNOTATION_TARGET = f"{GROUP}/target"
"""On the Deployment of a canary: name of the target that it was made from."""
ANNOTATION_TEMPLATE = f"{GROUP}/template"
"""On the Deployment of a canary: digest of the target's pod template that it was made from."""
ANNOTATION_ROUTE = f"{GROUP}/http-route"
"""On the Deployment of a canary with traffic Gateway: name of the HTTPRoute that leads to it."""
ANNOTATION_SERVICE = f"{GROUP}/service"
"""Beside it: name of the target's Service, which the route names with that of the canary."""

MAX_LABEL = 63
"""Characters of a DNS label."""

FINALIZER = f"{GROUP}/rollout"

RUN_FOLDER = "/springtide"
RUN_FILE = f"{RUN_FOLDER}/run.json"
PROGRESS_AUDIENCE = "springtide-progress"
PROGRESS_TOKEN_FOLDER = "/var/run/secrets/springtide"
PROGRESS_TOKEN_FILE = f"{PROGRESS_TOKEN_FOLDER}/token"


def field_manager(update: str) -> str:
    """Return the field manager of an update, which owns its fields in the targets."""
    return f"springtide:{update}"


def canary_name(target: str) -> str:
    """Return the name of the Deployment of a target's canary; a long name is cut and hashed."""
    name = f"{target}-canary"
    if len(name) <= MAX_LABEL:
        return name
    return f"{target[:40].rstrip('-.')}-{hashlib.sha256(target.encode()).hexdigest()[:10]}-canary"


def generation_name(update: str, number: int) -> str:
    """Return the name of a generation. The CRD refuses any other name."""
    return f"{update}-g{number}"


def job_name(update: str, uid: str, number: int, stage: str, attempt: int) -> str:
    """Return the name of the Job of an attempt; at most 63 characters for an update name of 32."""
    return f"{update}-{uid[:5]}-g{number}-{stage}-{attempt}"


def job_set_name(update: str, uid: str, number: int, attempt: int) -> str:
    """Return the name of the JobSet of an attempt at a training.

    The names of its pods are 16 characters longer; they, and that of its Service, must be labels
    that begin with a letter. Of an update whose name does not allow that, the name is hashed.
    """
    name = job_name(update, uid, number, "train", attempt)
    longest = MAX_LABEL - len(f"-{REPLICATED_JOB}-0-99-abcde")
    if len(name) <= longest and re.fullmatch(r"[a-z][-a-z0-9]*", name):
        return name
    hashed = f"t{hashlib.sha256(update.encode()).hexdigest()[:10]}"
    return job_name(hashed, uid, number, "train", attempt)


def first_pod_host(job_set: str) -> str:
    """Return the stable host name of the first pod of a JobSet, within its namespace."""
    return f"{job_set}-{REPLICATED_JOB}-0-0.{job_set}"


def probe_name(update: str, uid: str, slot: int) -> str:
    """Return the name of the probe Job of a time slot (start in whole seconds since 1970)."""
    return f"{update}-{uid[:5]}-probe-{slot}"
