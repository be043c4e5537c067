"""The status of an `IncrementalUpdate`, written by the operator.

`pinned`, `cursor.quarantined`, `cursor.released`, `lastRequest`, `lastProbe`, `acknowledgedHolds`
and `counters` are stored only here. Everything else is derived from generations, Jobs and targets
at each reconcile.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Digest, Model, ObjectName, Text, Time, Word


class Condition(Model):
    """One aspect of the state. True is the good state, except for ActionRequired and Stalled."""

    type: Annotated[str, Field(max_length=64)]
    """Type of the condition, such as Ready or Serving."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: Annotated[str, Field(max_length=128)]
    """Machine-readable reason in CamelCase."""
    message: Text = ""
    """Human-readable details: what, where, and what to do."""
    observed_generation: int = 0
    """metadata.generation that the condition refers to."""
    last_transition_time: Time
    """When the status last changed."""


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    ),
]


class GenerationRef(Model):
    """Reference to a ModelGeneration of this update."""

    name: Word
    """Name of the ModelGeneration."""
    number: int
    """Number of the generation."""
    digest: Digest | None = None
    """Digest of its weights in the form that is served."""
    since: Time | None = None
    """Since when it has this role."""


class Cursor(Model):
    """Position in the stream of data: what was trained on, what is new, what is left out."""

    trained_through: Time | None = None
    """End of the data that the live model was trained on. It changes only at a promotion or a
    rollback."""
    pending_rows: int = 0
    """Rows of complete partitions that no live model was trained on."""
    newest_partition: Word | None = None
    """Newest complete partition, named by the start of its period."""
    quarantined: Annotated[list[Word], Field(max_length=16)] = []
    """Quarantined partitions: used neither for training nor in a holdout."""
    released: Annotated[list[Word], Field(max_length=16)] = []
    """Partitions released from quarantine that no live model was trained on yet. They are used for
    training, never in a holdout."""
    proposed_for_quarantine: Annotated[list[Word], Field(max_length=16)] = []
    """Partitions proposed for quarantine. To accept: annotate the update with
    springtide.dev/request=quarantine@<token>."""


class Freshness(Model):
    """How recent the data of the served model is."""

    served_data_through: Time | None = None
    """End of the data that the served model was trained on: the pinned one, else the live one. The
    column Data-Age shows its age."""


class LastRun(Model):
    """The newest run and its result."""

    generation: Word
    """Name of its ModelGeneration."""
    trigger: Word = ""
    """What started the run: Schedule, OnData or Request."""
    verdict: Word = "Pending"
    """Verdict on the generation: Pending, Imported, Accepted, Rejected, Inconclusive or Failed."""
    outcome: Word = ""
    """Outcome of the generation: Live, Superseded, RolledBack, RolloutFailed, Rejected,
    Inconclusive, Failed or Retired. Empty while it is undecided."""
    summary: Word = ""
    """Text of the column Last-Run: outcome (or verdict) and number, such as "RolledBack g4"."""
    reason: Word = ""
    """Machine-readable reason of the verdict or outcome."""
    message: Text = ""
    """Human-readable details: rule, measured value, bound and counts."""
    manifest_digest: Digest | None = None
    """Digest of the data manifest: training rows, holdout and quarantine."""


class LastRequest(Model):
    """Result of the last request (annotation springtide.dev/request)."""

    token: Word
    """Token of the request."""
    verb: Word
    """Verb of the request."""
    result: Word
    """Accepted, Refused or Recorded. Recorded: the annotation was already present when the update
    was created, so the request was not carried out."""
    message: Text = ""
    """What was done, or why it was refused."""


class LastProbe(Model):
    """The last probe for new data."""

    finished_at: Time
    """When the probe finished."""
    job: Word
    """Name of the probe Job."""
    job_uid: Annotated[str, Field(max_length=64)] = ""
    """Uid of the Job; a repeated request creates a Job of the same name."""
    reason: Word
    """WindowReady, NotEnoughData, NoNewData, NotComplete, or the reason of a failure."""
    message: Text = ""
    """What the probe found, with numbers."""
    failures: int = 0
    """Number of consecutive failed probes."""


class Progress(Model):
    """Progress of the current stage."""

    stage: Word = ""
    """Current stage: Probe, Import, Tokenize, Train, Evaluate or Rollout."""
    percent: Annotated[int | None, Field(ge=0, le=100)] = None
    """Completed share in percent, 0 to 100."""
    eta_seconds: Annotated[int | None, Field(ge=0)] = None
    """Estimated seconds until the stage ends."""
    waiting_for: Text = ""
    """What the update is waiting for, such as a GPU, more data, the cooldown or a decision."""
    summary: Word = ""
    """Text of the column Progress: percent and time left, or what the update is waiting for."""


class TargetStatus(Model):
    """Observed state of one target."""

    name: ObjectName
    """Name of the Deployment."""
    generation: int | None = None
    """Number of the generation in its pod template; unset before the first rollout."""
    digest: Digest | None = None
    """Model digest in its pod template."""
    available: int = 0
    """Available pods of the newest pod template."""
    desired: int = 0
    """Desired replicas of the Deployment."""
    message: Text = ""
    """Why the target is not in sync, if it is not."""
    reapplied_at: Annotated[list[Time], Field(max_length=3)] = []
    """When fields of Springtide that another client removed were applied again; at most 3 times an
    hour."""


class Counters(Model):
    """Totals since the update was created."""

    runs: int = 0
    """Runs started."""
    promoted: int = 0
    """Generations promoted."""
    rolled_back: int = 0
    """Generations that were rolled back."""
    rejected: int = 0
    """Generations with verdict Rejected."""
    failed: int = 0
    """Generations with verdict Failed."""
    gpu_seconds: int = 0
    """Running seconds times GPUs, over all training and evaluation pods that ended."""


class HistoryEntry(Model):
    """Summary of one generation."""

    number: int
    """Number of the generation."""
    verdict: Word
    """Verdict on the generation."""
    outcome: Word = ""
    """Outcome of the generation; empty while it is undecided."""
    reason: Word = ""
    """Machine-readable reason of the verdict or outcome."""
    trained_through: Time | None = None
    """End of its training data."""
    finished_at: Time | None = None
    """When it was promoted, else when its verdict was written."""
    gpu_seconds: int | None = None
    """GPU seconds of its pods that ended, as counted in counters.gpuSeconds."""


class UpdateStatus(Model):
    """Observed state of the update. Written by the operator only."""

    observed_generation: int = 0
    """metadata.generation of the spec that this status refers to."""
    phase: Word = "Idle"
    """Idle, Probing, Queued, Importing, Training, Evaluating, AwaitingApproval, RollingOut, Baking,
    RollingBack, Pinned, Suspended, OnHold, Frozen or Invalid. For display; the operator never reads
    it."""
    conditions: Conditions = []
    """Ready, Serving, DataReady, LastRunSucceeded, TargetsInSync and ActionRequired, which is True
    exactly while a user must act and says what to do. Stalled exists only while it is True."""
    live: GenerationRef | None = None
    """The generation that is live."""
    previous: GenerationRef | None = None
    """The generation that was live before."""
    candidate: GenerationRef | None = None
    """The generation that is being trained, evaluated or rolled out."""
    pinned: GenerationRef | None = None
    """The generation that the targets serve because of spec.rollout.pin. After the pin is removed
    it stays here until the targets serve the live generation again."""
    cursor: Cursor = Cursor()
    """Position in the stream of data."""
    freshness: Freshness = Freshness()
    """How recent the data of the served model is."""
    last_run: LastRun | None = None
    """The newest run and its result."""
    last_request: LastRequest | None = None
    """Result of the last request."""
    last_probe: LastProbe | None = None
    """The last probe for new data."""
    acknowledged_holds: Annotated[list[Word], Field(max_length=16)] = []
    """Holds that a `retry` request ended, as generation/attempt-holdout. They do not hold again."""
    consecutive_failures: int = 0
    """Number of consecutive runs with verdict Failed."""
    progress: Progress = Progress()
    """Progress of the current stage."""
    targets: Annotated[list[TargetStatus], Field(max_length=4)] = []
    """Observed state of the targets."""
    gpu_seconds_last_day: int = 0
    """GPU seconds of all training and evaluation pods within 24 hours, as
    training.limits.maxGpuSecondsPerDay counts them: up to the last full hour, or up to the last end
    of a pod if that is later."""
    counters: Counters = Counters()
    """Totals since the update was created."""
    history: Annotated[list[HistoryEntry], Field(max_length=20)] = []
    """The newest 20 generations, newest first. The live and the previous one, one that rolls out
    and the one that was promoted last are always among them."""
