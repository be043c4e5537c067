"""One attempt at a fresher model: the `ModelGeneration`, written by the operator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.data_spec import Data
from springtide_api.gate_spec import Evaluation, Gate
from springtide_api.schema import (
    Decimal,
    Digest,
    Model,
    Name,
    ObjectName,
    Text,
    Time,
    Uri,
    Word,
    cel,
)
from springtide_api.training_spec import Training
from springtide_api.update_spec import (
    InitialModel,
    ModelSpec,
    Storage,
    Target,
    TargetEnv,
    TargetRef,
)
from springtide_api.update_status import Conditions


class UpdateRef(Model):
    """The update that this generation belongs to."""

    name: Annotated[str, Field(min_length=1, max_length=32)]
    """Name of the IncrementalUpdate in the same namespace; its uid is a label."""


class Ancestor(Model):
    """Another generation, by name and content."""

    name: Word
    """Name of the ModelGeneration."""
    digest: Digest
    """Digest of its weights."""


class Range(Model):
    """Rows whose timestamp lies in [from, to)."""

    from_: Annotated[Time | None, Field(alias="from")] = None
    """First moment, included. None: the first row."""
    to: Time
    """Last moment, excluded."""


class GenerationData(Model):
    """The data of a run, frozen before training."""

    windows: Annotated[list[Range], Field(max_length=17)] = []
    """Time ranges of the training rows."""
    partitions: Annotated[list[Word], Field(max_length=512)] = []
    """Training partitions by the start of their period."""
    quarantined: Annotated[list[Word], Field(max_length=16)] = []
    """Partitions that were left out because they were quarantined."""
    holdout: Range | None = None
    """Time range of the rows that judge first; extensions are in status.evaluation."""
    holdout_partitions: Annotated[list[Word], Field(max_length=366)] = []
    """Partitions of that holdout."""
    manifest: Uri | None = None
    """Folder of the frozen rows and their manifest."""
    digest: Digest | None = None
    """Digest of the manifest."""
    rows: int = 0
    """Training rows."""
    holdout_rows: int = 0
    """Rows that judge."""
    holdout_entities: int = 0
    """Entities among them."""
    holdout_positives: int = 0
    """Rows of the positive (with many labels: the rarest) label among them."""
    reserved_rows: int = 0
    """Reserved rows of the training range: the historical shard of this generation."""
    historical: Annotated[list[Uri], Field(max_length=64)] = []
    """Historical shards of the ancestors, oldest first."""


class Recipe(Model):
    """The part of the update's spec that made this generation, by value.

    Its training.image is the one that was used, also where the installation provided it.
    """

    model: ModelSpec
    data: Data
    training: Training
    evaluation: Evaluation
    gate: Gate
    storage: Storage


@cel(
    "self == oldSelf",
    "the spec of a generation is immutable; change the IncrementalUpdate, the next run follows it",
)
@cel(
    "(self.origin == 'Imported') == has(self.initial)",
    "set initial if and only if origin is Imported",
)
@cel(
    "(self.origin == 'Trained') == has(self.data)",
    "set data if and only if origin is Trained",
)
@cel(
    "self.origin != 'Trained' || has(self.parent)",
    "a generation with origin Trained needs parent: the weights that it continues from",
)
class GenerationSpec(Model):
    """What this generation is made from. Immutable."""

    update_ref: UpdateRef
    """The update that this generation belongs to."""
    number: Annotated[int, Field(ge=0, le=2_147_483_647)]
    """Number, never used twice for one update; the imported model is 0."""
    origin: Literal["Imported", "Trained"]
    """Imported: from model.initial. Trained: from its parent."""
    trigger: Literal["", "Schedule", "OnData", "Request"] = ""
    """What started the run."""
    parent: Ancestor | None = None
    """The generation whose weights it continues from."""
    baseline: Ancestor | None = None
    """The live generation that it is compared with; none for the first."""
    reference: Ancestor | None = None
    """The generation that rules with maxCumulativeRegression compare it with."""
    data: GenerationData | None = None
    """The data of the run; none for an imported one."""
    initial: InitialModel | None = None
    """Source of an imported one."""
    recipe: Recipe
    """The part of the update's spec that made this generation, by value."""
    image_digest: Digest | None = None
    """Digest of the trainer image, as the node reported it of the probe that found the data. None:
    not known. It is part of recipeHash: two images under one name are two recipes."""
    recipe_hash: Digest
    """Digest of what decides the weights and the verdict: model, data, training with its image,
    evaluation, gate."""


class Artifact(Model):
    """The weights."""

    uri: Uri
    """Folder of the artifact."""
    weights_digest: Digest
    """Digest of weights, tokenizer and preprocessing."""
    served_digest: Digest
    """Digest of the form that is served."""
    format: Word = "safetensors"
    """Format of the weights."""
    bytes: int = 0
    """Size."""
    head: Literal["Trained", "Seeded"] = "Trained"
    """Seeded: the head was made at import and knows nothing; never served."""


class PodRun(Model):
    """When one pod of a stage ran. Waiting for a node, a queue or an image counts nothing."""

    uid: Annotated[str, Field(max_length=64)]
    """Uid of the pod."""
    started_at: Time
    """When its container started."""
    ended_at: Time | None = None
    """When its container ended, or was gone. None: it runs."""
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    """GPUs that it held."""


class StageRun(Model):
    """The Job of one stage."""

    job: Word
    """Name of the newest attempt's Job."""
    attempt: int = 1
    """Number of the attempt, from 1."""
    failed_attempts: int = 0
    """Attempts that failed and count against limits.maxAttempts."""
    job_uid: Annotated[str, Field(max_length=64)] = ""
    """Uid of the Job once it was made."""
    started_at: Time | None = None
    """When the first attempt was recorded."""
    last_failure: Text = ""
    """Why the last attempt failed."""
    image_digest: Digest | None = None
    """Digest of the image that the newest pod ran, as the node reports it."""
    pods: Annotated[list[PodRun], Field(max_length=8)] = []
    """Pods of the newest attempt that ran. Those before are summed up in runningSeconds."""
    running_seconds: int = 0
    """Seconds that earlier pods of this stage ran; limits.activeDeadline bounds the running time of
    all its pods together."""
    gpu_seconds: int = 0
    """Running seconds times GPUs of all pods that ended, disrupted ones included."""


class TrainingStatus(StageRun):
    """Training, or the import of generation 0."""

    batch_divisor: int = 1
    """Batches are this many times smaller than the recipe's, after running out of memory."""
    step: int | None = None
    """Optimiser steps done."""
    total_steps: int | None = None
    """Optimiser steps in all, as far as known."""
    percent: int | None = None
    """Share done, 0 to 100."""
    eta_seconds: int | None = None
    """Estimated seconds to the end."""
    metrics: Annotated[list[Word], Field(max_length=16)] = []
    """Numbers of the trainer, as name=value."""
    adjustments: Annotated[list[Text], Field(max_length=8)] = []
    """What was changed to get through, such as a halved batch."""


class HoldoutStatus(Model):
    """One holdout and the interim analyses of it."""

    digest: Digest
    """Digest of its manifest."""
    manifest: Uri
    """Folder of its frozen rows."""
    range: Range
    """Rows whose timestamp lies in [from, to)."""
    partitions: Annotated[list[Word], Field(max_length=366)] = []
    """Its partitions."""
    rows: int = 0
    """Its rows."""
    entities: int = 0
    """Entities among them."""
    positives: int = 0
    """Rows of the positive (with many labels: the rarest) label among them."""
    interim_analyses: int = 0
    """Evaluations on it that decided a Required rule. One whose holdout was suspect does not
    count."""
    outcome: Word = ""
    """Decided, Inconclusive, Suspect or TooFewEntities; empty: not evaluated yet. Suspect and
    TooFewEntities use no interim analysis."""


class RuleResult(Model):
    """One rule on one holdout: the numbers and what they say."""

    rule: Name
    """Name of the rule."""
    metric: Word = ""
    """What was measured."""
    dataset: Word = ""
    """On which dataset."""
    candidate: Decimal | None = None
    """The candidate's value."""
    baseline: Decimal | None = None
    """The live model's value."""
    delta: Decimal | None = None
    """Candidate minus live, signed so that more is better."""
    superior: bool = False
    """Proven better than live: the lower bound of the delta is above 0."""
    low: Decimal | None = None
    """Lower bound of what decided: the delta, or the candidate's own value."""
    high: Decimal | None = None
    """Upper bound of it."""
    bound: Text = ""
    """The bound in words, such as "delta > -0.005"."""
    entities: int = 0
    """Entities that were scored."""
    positives: int = 0
    """Rows of the positive (with many labels: the rarest) label that were scored."""
    severity: Word = "Required"
    """Whether the rule decides (Required) or only reports (Warn)."""
    verdict: Word
    """What this rule says: Pass, Reject or Inconclusive."""
    message: Text = ""
    """The same in a sentence."""


class Score(Model):
    """A model's own score, kept to notice a holdout that is out of line."""

    metric: Word
    """What was measured."""
    dataset: Word
    """On which dataset."""
    value: Decimal
    """The score."""
    standard_error: Decimal
    """Standard error."""


class EvaluationStatus(StageRun):
    """Judging."""

    report: Uri | None = None
    """Folder of report and scores."""
    holdouts: Annotated[list[HoldoutStatus], Field(max_length=8)] = []
    """The holdouts that it was or will be judged on, the first one included, the newest last."""
    interim_analyses: int = 0
    """Interim analyses over all holdouts."""
    results: Annotated[list[RuleResult], Field(max_length=16)] = []
    """The rules, as the newest evaluation decided them."""
    scores: Annotated[list[Score], Field(max_length=16)] = []
    """This generation's own scores on the newest unsuspected holdout: what live must hold."""


class RolloutTarget(Model):
    """A target as it was when the rollout began: what a rollback needs, whatever the spec says."""

    name: ObjectName
    """Name of the Deployment."""
    container: Name
    """Container that serves the model."""
    env: TargetEnv = TargetEnv()
    """Names of its environment variables."""
    template: Digest | None = None
    """Digest of its pod template without what the operator owns in it."""

    def declared(self) -> Target:
        """The same as a target of a spec."""
        reference = TargetRef(name=self.name)
        return Target(target_ref=reference, container=self.container, env=self.env)


class RolloutStatus(Model):
    """Serving."""

    step_started_at: Time | None = None
    """When the roll began."""
    deadline: Time | None = None
    """When it goes back if the pods are not available."""
    held_since: Time | None = None
    """A target is missing, paused, scaled to 0 or changed by somebody: the clock stands since."""
    targets: Annotated[list[RolloutTarget], Field(max_length=8)] = []
    """The targets as their owner had them when the rollout began, or when a change was complete;
    those that the spec names no more come last."""
    promoted_at: Time | None = None
    """When all targets were available on it. The newest promotedAt is live."""
    rollback_reason: Text = ""
    """Why it was taken back; an aborted generation is never served again."""
    rolled_back_at: Time | None = None
    """When all targets were back."""


class QuarantineRecord(Model):
    """One partition that is or was quarantined."""

    partition: Word
    """The partition, by the start of its period."""
    quarantined_at: Time
    """When it was quarantined."""
    released_at: Time | None = None
    """When it was released. None: it is quarantined."""


class GenerationStatus(Model):
    """What became of it. Written by the operator alone."""

    phase: Word = "Pending"
    """One word for people, derived; never an input."""
    verdict: Word = "Pending"
    """Pending, Imported, Accepted, Rejected, Inconclusive or Failed. An operator leaves a
    generation alone whose verdict it does not know."""
    reason: Word = ""
    """Why, in one word."""
    message: Text = ""
    """Why, with rule, number, bound, interval and counts."""
    verdict_at: Time | None = None
    """When the verdict was written."""
    outcome: Word = ""
    """What became of it: Live, Superseded, RolledBack, Rejected, Inconclusive, Failed or Retired;
    empty while that is open. Derived; never an input."""
    retired_reason: Word = ""
    """Why the candidate was given up without a rejection, such as PartitionQuarantined."""
    conditions: Conditions = []
    """Trained, Evaluated, Accepted and Live."""
    artifact: Artifact | None = None
    """The weights."""
    training: TrainingStatus | None = None
    """Training."""
    evaluation: EvaluationStatus | None = None
    """Judging."""
    rollout: RolloutStatus = RolloutStatus()
    """Serving."""
    trained_through: Time | None = None
    """End of its training data; the cursor while it is live."""
    quarantined: Annotated[list[Word], Field(max_length=32)] = []
    """Partitions that were quarantined when its run began or when it was promoted."""
    quarantine_records: Annotated[list[QuarantineRecord], Field(max_length=32)] = []
    """The update's quarantine after its last change while this was the newest generation. An update
    that is restored takes over the newest of these records."""
