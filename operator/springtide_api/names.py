"""Every public string: group, kinds, labels, annotations, environment and the names of children.

Names are deterministic from (update uid, generation number, stage, attempt), so that a crash
between any two writes, repeated from the start, ends in the same world.
"""

from __future__ import annotations

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
LABEL_STAGE = f"{GROUP}/stage"
LABEL_ATTEMPT = f"{GROUP}/attempt"

ANNOTATION_REQUEST = f"{GROUP}/request"
ANNOTATION_NUMBER = f"{GROUP}/number"
ANNOTATION_UPDATE_UID = f"{GROUP}/update-uid"
ANNOTATION_DIGEST = f"{GROUP}/digest"
ANNOTATION_RUN = f"{GROUP}/run"
"""On a pod template of ours: the run file, mounted by the downward API."""
ANNOTATION_PROBE = f"{GROUP}/probe"
"""On a generation: uid of the probe Job that it was made from."""

ANNOTATION_TRIGGER = f"{GROUP}/trigger"
"""On a probe: what started it."""
ANNOTATION_CURSOR = f"{GROUP}/cursor"
"""On a probe: where its window begins."""
ANNOTATION_QUARANTINED = f"{GROUP}/quarantined"
"""On a probe: quarantined partitions that it leaves out, with commas between."""
ANNOTATION_SPEC_DIGEST = f"{GROUP}/spec-digest"
"""On a probe: digest of the part of the spec that it depends on."""
ANNOTATION_SPEC_GENERATION = f"{GROUP}/spec-generation"
"""On a Job: metadata.generation of the update when it was made."""

ANNOTATION_SUSPENDED = f"{GROUP}/suspended"
"""On a Job: "true" where the operator suspended it. It resumes no Job that another suspended."""
ANNOTATION_GPUS = f"{GROUP}/gpus"
"""On a Job: GPUs of its pod."""
ANNOTATION_IMAGE = f"{GROUP}/image"
"""On a Job: the image of its pod, by name."""

FINALIZER = f"{GROUP}/rollout"

RUN_FOLDER = "/springtide"
RUN_FILE = f"{RUN_FOLDER}/run.json"
PROGRESS_AUDIENCE = "springtide-progress"
PROGRESS_TOKEN_FOLDER = "/var/run/secrets/springtide"
PROGRESS_TOKEN_FILE = f"{PROGRESS_TOKEN_FOLDER}/token"


def field_manager(update: str) -> str:
    """Name the manager that owns our fields in a target: one for each update."""
    return f"springtide:{update}"


def generation_name(update: str, number: int) -> str:
    """Name a generation; the CRD refuses any other name."""
    return f"{update}-g{number}"


def job_name(update: str, uid: str, number: int, stage: str, attempt: int) -> str:
    """Name the Job of one attempt at one stage; at most 63 characters for an update of 32."""
    return f"{update}-{uid[:5]}-g{number}-{stage}-{attempt}"


def probe_name(update: str, uid: str, slot: int) -> str:
    """Name the probe of one time slot (whole seconds since 1970 of its start)."""
    return f"{update}-{uid[:5]}-probe-{slot}"
