"""The status of a `ModelGeneration`: its stages, its evaluation, its rollout."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.generation.continuation import Adapter
from springtide_api.generation.rollout import RolloutStatus
from springtide_api.generation.spec import Range, ReplayBuffer
from springtide_api.schema import (
    Commit,
    Decimal,
    Digest,
    Model,
    Name,
    Text,
    Time,
    Uri,
    Word,
)
from springtide_api.update.status import Conditions


class Artifact(Model):
    """The model artifact."""

    uri: Uri
    """Folder of the files that are served."""
    weights_digest: Digest
    """Digest of weights, tokenizer and preprocess.json. Training continues from these weights."""
    served_digest: Digest
    """Digest of the files that are served: with serving.optimise those of the optimized form, else
    the same as weightsDigest."""
    format: Word = "safetensors"
    """Format of the model that is served: safetensors, or onnx with serving.optimise and its
    quantization."""
    bytes: int = 0
    """Size of the files that are served, in bytes."""
    head: Literal["Trained", "Seeded"] = "Trained"
    """Trained, or Seeded: the head was initialized, or layers were removed, at import. A
    Seeded artifact is never served."""
    commit: Commit | None = None
    """Commit of the repository of a hub that was imported. With it in place of a branch or tag,
    model.initial.uri names the same files for ever. Unset unless that begins with hf://."""
    buffer: ReplayBuffer | None = None
    """Rows that the next generation replays while this one is its parent; unset without
    training.retention.replay."""
    fisher: Digest | None = None
    """Digest of the Fisher information that the next generation takes while this one is its parent;
    unset without training.retention.ewc."""
    adapter: Adapter | None = None
    """Adapter that the next generation continues while this one is its parent. The weights have it
    merged. Unset unless training.method.lora.continuation is Continue."""


class PodRun(Model):
    """Running time of one pod of a stage.

    Time spent waiting for a node, a queue or an image does not count.
    """

    uid: Annotated[str, Field(max_length=64)]
    """Uid of the pod."""
    started_at: Time
    """When its container started."""
    ended_at: Time | None = None
    """When its container ended; unset while it runs."""
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    """GPUs of the pod."""


class GpuRun(Model):
    """A pod with a GPU that ended."""

    attempt: int
    """Number of the attempt that it belonged to."""
    started_at: Time
    """When its container started."""
    ended_at: Time
    """When its container ended."""
    gpu_seconds: int
    """Seconds between both, times its GPUs."""


class StageRun(Model):
    """The Job of one stage."""

    job: Word
    """Name of the Job of the newest attempt."""
    attempt: int = 1
    """Number of the newest attempt, starting at 1."""
    failed_attempts: int = 0
    """Failed attempts that count against training.limits.maxAttempts. Disrupted pods do not
    count."""
    job_uid: Annotated[str, Field(max_length=64)] = ""
    """Uid of the Job, once it exists."""
    started_at: Time | None = None
    """When the first attempt started."""
    last_failure: Text = ""
    """Why the last attempt failed."""
    image_digest: Digest | None = None
    """Digest of the image of the newest pod, as the node reports it."""
    pods: Annotated[list[PodRun], Field(max_length=40)] = []
    """Pods of the newest attempt. Earlier pods are included in runningSeconds."""
    running_seconds: int = 0
    """Running time of earlier pods of this stage in seconds; of pods that ran at the same time, it
    counts once. training.limits.activeDeadline limits the running time of the stage."""
    gpu_seconds: int = 0
    """Running seconds times GPUs of all pods that ended, including disrupted ones."""
    gpu_runs: Annotated[list[GpuRun], Field(max_length=16)] = []
    """Pods with a GPU that ended and are no longer in pods, the oldest first. Of more than 16, the
    two that are closest together become one, with the seconds of both."""


class ReplayStatus(Model):
    """Rows of the parent's buffer that were trained on again."""

    rows: int = 0
    """Number of replayed rows, including those of the validation split."""
    by_class: Annotated[list[Word], Field(max_length=32)] = []
    """Replayed rows of each class, as name=rows; the 32 classes with the fewest."""
    by_slice: Annotated[list[Word], Field(max_length=32)] = []
    """Replayed rows of each slice, as name=rows; the 32 slices with the fewest."""
    median: Time | None = None
    """Median of their timestamps: half of them are not older. Unset without halfLife."""
    message: Text = ""
    """Classes with fewer than rowsPerClass rows, slices with fewer than rowsPerSlice, or a ratio
    that was not reached, and why."""


class PseudoLabelStatus(Model):
    """Training rows without a label that the parent labelled."""

    offered: int = 0
    """Number of training rows without a label that could be used: not of weight 0, and not of an
    entity in the validation split."""
    used: int = 0
    """Number of those that were trained on, with the parent's label."""
    by_class: Annotated[list[Word], Field(max_length=32)] = []
    """Used rows of each label, as name=rows; the 32 labels with the fewest."""
    message: Text = ""
    """Why no row was labelled."""


class TrainingStatus(StageRun):
    """State of the training Job, or of the import Job of generation 0."""

    batch_divisor: int = 1
    """Divisor of the recipe's batch size after out-of-memory failures."""
    step: int | None = None
    """Completed optimizer steps."""
    total_steps: int | None = None
    """Total optimizer steps, if known."""
    percent: int | None = None
    """Completed share in percent, 0 to 100."""
    eta_seconds: int | None = None
    """Estimated seconds until training ends."""
    metrics: Annotated[list[Word], Field(max_length=16)] = []
    """Metrics that the trainer reported, as name=value."""
    replay: ReplayStatus | None = None
    """Rows of earlier windows that were trained on again; unset without
    training.retention.replay."""
    pseudo_labels: PseudoLabelStatus | None = None
    """Rows without a label that the parent labelled; unset without
    training.unlabelled.pseudoLabels."""
    adjustments: Annotated[list[Text], Field(max_length=8)] = []
    """Adjustments after failed attempts, such as a halved batch."""


class HoldoutStatus(Model):
    """One holdout and the interim analyses of it."""

    digest: Digest
    """Digest of its manifest."""
    manifest: Uri
    """Folder of its frozen rows."""
    range: Range
    """Time range of its rows."""
    partitions: Annotated[list[Word], Field(max_length=366)] = []
    """Its partitions."""
    rows: int = 0
    """Its rows."""
    entities: int = 0
    """Its entities."""
    positives: int = 0
    """Its rows with the positive label (with more than two labels: the rarest label)."""
    interim_analyses: int = 0
    """Evaluations on it that decided a Required rule. One whose holdout was suspect does not
    count."""
    outcome: Word = ""
    """Decided, Inconclusive, Suspect or TooFewEntities; empty: not evaluated yet. Suspect and
    TooFewEntities use no interim analysis."""


class RuleResult(Model):
    """Result of one rule on one dataset."""

    rule: Name
    """Name of the rule."""
    metric: Word = ""
    """Metric of the rule."""
    dataset: Word = ""
    """Dataset of the rule."""
    candidate: Decimal | None = None
    """Value of the candidate."""
    baseline: Decimal | None = None
    """Value of the live model."""
    delta: Decimal | None = None
    """Candidate minus live model; positive is better, whatever the metric."""
    superior: bool = False
    """The candidate is better than the live model: the lower bound of delta is above 0."""
    low: Decimal | None = None
    """Lower confidence bound of the deciding value: delta, or the candidate's value."""
    high: Decimal | None = None
    """Upper confidence bound of the deciding value."""
    bound: Text = ""
    """What the rule requires, such as "delta > -0.005"."""
    entities: int = 0
    """Contributing entities."""
    positives: int = 0
    """Scored rows with the positive label (with more than two labels: the rarest label)."""
    severity: Word = "Required"
    """Required: the rule decides on the verdict. Warn: it is only reported."""
    verdict: Word
    """Pass, Reject or Inconclusive."""
    message: Text = ""
    """Human-readable result: value, bounds, requirement and counts."""


class Score(Model):
    """The score of a model, kept to detect a suspect holdout later."""

    metric: Word
    """Metric."""
    dataset: Word
    """Dataset."""
    value: Decimal
    """Score."""
    standard_error: Decimal
    """Standard error of the score."""


class EvaluationStatus(StageRun):
    """State and results of the evaluation."""

    batch_divisor: int = 1
    """Divisor of the rows of a forward pass after out-of-memory failures."""
    report: Uri | None = None
    """Folder of the report and the scores."""
    holdouts: Annotated[list[HoldoutStatus], Field(max_length=8)] = []
    """All holdouts of the candidate, newest last."""
    interim_analyses: int = 0
    """Interim analyses over all holdouts."""
    results: Annotated[list[RuleResult], Field(max_length=16)] = []
    """Results of the rules in the newest evaluation."""
    scores: Annotated[list[Score], Field(max_length=16)] = []
    """Scores of this generation on the newest holdout that was not suspect. While it is live, a
    large drop against them makes a new holdout suspect."""


class QuarantineRecord(Model):
    """One partition that is or was quarantined."""

    partition: Word
    """Partition, named by the start of its period."""
    quarantined_at: Time
    """When it was quarantined."""
    released_at: Time | None = None
    """When it was released; unset while it is quarantined."""


class GenerationStatus(Model):
    """Observed state of the generation. Written by the operator only."""

    phase: Word = "Pending"
    """Pending, Importing, Imported, Training, Evaluating, Accepted, AwaitingApproval, RollingOut,
    Promoted, RollingBack, RolledBack, Rejected, Inconclusive, Failed or Retired. For display; the
    operator never reads it."""
    verdict: Word = "Pending"
    """Pending, Imported, Accepted, Rejected, Inconclusive or Failed. An operator leaves a
    generation alone whose verdict it does not know."""
    reason: Word = ""
    """Machine-readable reason of the verdict, such as RulesPassed or NoBaseline."""
    message: Text = ""
    """Human-readable details: rule, value, confidence bounds, requirement and counts."""
    verdict_at: Time | None = None
    """When the verdict was written."""
    outcome: Word = ""
    """What became of the generation: Live, Superseded, RolledBack, RolloutFailed, Rejected,
    Inconclusive, Failed or Retired. Empty while it is undecided. For display; the operator never
    reads it."""
    retired_reason: Word = ""
    """Why the candidate was retired, although no rule rejected it, such as PartitionQuarantined or
    RejectedByApprover; ObserveMode: it was accepted, and spec.mode of the update is Observe."""
    conditions: Conditions = []
    """Trained, Evaluated, Accepted and Live."""
    artifact: Artifact | None = None
    """The model artifact; unset until it exists."""
    training: TrainingStatus | None = None
    """State of the training or import Job."""
    evaluation: EvaluationStatus | None = None
    """State and results of the evaluation."""
    rollout: RolloutStatus = RolloutStatus()
    """State of the rollout."""
    gpu_seconds: int = 0
    """GPU seconds of its training and evaluation: running seconds times GPUs of all pods that
    ended."""
    trained_through: Time | None = None
    """End of its training data. While the generation is live, this is the cursor of the update."""
    quarantined: Annotated[list[Word], Field(max_length=32)] = []
    """Partitions that were quarantined when its run started or when it was promoted."""
    unfrozen_at: Time | None = None
    """When a user ended a freeze while this was the newest generation: earlier rollbacks do not
    count for rollout.rollback.freezeAfter."""
    files_deleted_at: Time | None = None
    """Since when its files are being deleted, as it is beyond spec.history. Nothing rolls back to
    it from then on."""
    quarantine_records: Annotated[list[QuarantineRecord], Field(max_length=32)] = []
    """Quarantine of the update, recorded on the newest generation at each change. A restored update
    takes it over from the newest record."""
