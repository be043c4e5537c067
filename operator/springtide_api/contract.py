"""The contract between operator and trainer image. Any image may implement it.

Input: `/springtide/run.json`, a `RunFile`. Output: `result.json` on the storage, a `Result`, which
is also written to the termination message (at most 4096 bytes). Progress: POST of the Kubeflow
trainer-status JSON. Logs are not parsed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field

from springtide_api.generation.spec import Recipe, ReplayBuffer
from springtide_api.retained import PseudoLabelled, Replayed, Retained
from springtide_api.schema import Commit, Digest, Line, Model, Time, Uri, Word
from springtide_api.update.model import Sparsity, form_in_words
from springtide_api.update.tracking import Tracking

TERMINATION_MESSAGE = "/dev/termination-log"
TERMINATION_LIMIT = 4096
"""Maximum size of a termination message in bytes, as the kubelet enforces it."""

Stage = Literal["import", "probe", "tokenize", "train", "evaluate", "collect"]

Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]
"""Bounded, because any image may write a result and the numbers go into a status."""

Warnings = Annotated[list[Line], Field(max_length=8)]
"""What went wrong without failing the stage, in a sentence each."""

Reason = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,63}$")]
"""Machine-readable reason in CamelCase."""


class ExitCode(IntEnum):
    """Exit codes of a stage. Every other code is retried, such as 137 and 143 of killed pods."""

    DONE = 0
    INVALID_INPUT = 3
    """The user must fix the input, such as a missing column or an unsafe artifact. Not retried."""
    TOO_LITTLE_DATA = 4
    DIVERGED = 5
    OUT_OF_MEMORY = 42
    """Retried with a smaller batch, see training.limits.onOutOfMemory."""
    ENVIRONMENT = 75
    """Storage or network failed, such as a full disk. Retried unchanged."""


class ArtifactRef(Model):
    """A folder and the digest of its content."""

    uri: str
    digest: Digest


class AdapterInput(ArtifactRef):
    """An adapter whose training continues."""

    base: ArtifactRef
    """The weights that it belongs to."""


class ProbeInput(Model):
    """Input of a probe. Times are UTC; partitions are named by the start of their period."""

    now: Time
    """Current time of the API server. It decides which partitions are complete."""
    cursor: Time | None = None
    """Rows from this time on are new. None: all rows are new."""
    quarantined: list[str] = []
    released: list[str] = []
    """Partitions released from quarantine: used for training, never in a holdout."""
    excluded_generations: list[int] = []
    """Generations that were rolled back: rows with one of these numbers in the column
    servedGeneration are left out. Empty without that column."""
    through: Time | None = None
    """Partitions that end after it are not read. None: all complete partitions are. The operator
    never sets it; a run without a cluster must not see the holdout of the next generation."""
    held_back: Annotated[int, Field(ge=0)] = 0
    """Without `through`: how many of the newest complete partitions are not read. Where rows decide
    where a holdout begins (Tail, maxRows), the partitions from that of the next holdout on."""
    candidate_trained_through: Time | None = None
    """Set while a candidate waits for another holdout: the probe then cuts only a holdout that
    starts here, and no training window."""
    referenced: list[str] | None = None
    """All folders of `<home>/data` that generations refer to. The probe deletes other folders that
    are older than a week. None: it deletes nothing."""
    generations: list[str] | None = None
    """All generations that exist, each as the name of its results begins: `g<number>-` and the
    first 8 characters of its uid. The probe deletes checkpoints, reports, results and scratch
    folders of other generations and of earlier probes, if they are older than a week. None: it
    deletes none of them."""
    unfinished: list[str] = []
    """Those of `generations` whose pods may run: the probe keeps their checkpoints and scratch
    folders."""


class TokenizeInput(Model):
    """Input of the tokenization of training rows by several pods, before a training.

    It only saves the training time on its GPUs: the training tokenizes what is missing.
    """

    parent: ArtifactRef
    """The weights that the training continues from, with the tokenizer."""
    data: ArtifactRef
    """Folder of the frozen training rows."""
    pods: Annotated[int, Field(ge=1)]
    """Pods that tokenize together, each in shards of data.window.rowsPerShard rows. Its number is
    in JOB_COMPLETION_INDEX."""


class TrainInput(Model):
    """Input of training."""

    parent: ArtifactRef
    data: ArtifactRef
    """Folder of the frozen training rows."""
    checkpoints: str
    """Folder of the generation's checkpoints, shared by its attempts."""
    batch_divisor: int = 1
    buffer: ReplayBuffer | None = None
    """The parent's buffer, from which rows are replayed. None: it left none."""
    quarantined: list[str] = []
    """Partitions that are quarantined: their rows are not replayed."""
    adapter: AdapterInput | None = None
    """The parent's adapter, whose training continues. None: method LoRA starts a new one."""
    fisher: ArtifactRef | None = None
    """The parent's Fisher information, for training.retention.ewc. None: it left none."""
    seeded_head: bool = False
    """The parent's head is untrained, so that its outputs teach nothing."""


class EvaluateInput(Model):
    """Input of the evaluation."""

    candidate: ArtifactRef
    baseline: ArtifactRef | None = None
    holdout: ArtifactRef
    """Folder of the frozen holdout rows."""
    reference: ArtifactRef | None = None
    """The generation that rules with maxCumulativeRegression compare with."""
    historical: list[str] = []
    """Folders of the historical shards, oldest first."""
    confidence: float = 0.95
    """One-sided confidence of each bound, corrected for the number of interim analyses."""
    batch_divisor: int = 1
    """Divisor of the rows of a forward pass: 1, doubled each time that memory ran out."""
    parent_number: int | None = None
    retained: Retained | None = None
    """What the report says of retention, pruning and pseudo-labels."""
    continuation: Line = ""
    """What the training did with the adapter of its parent, for the report."""
    pods: Annotated[int, Field(ge=1)] = 1
    """Pods that score together, each in shards of data.window.rowsPerShard rows. Its number is in
    JOB_COMPLETION_INDEX; that of number 0 has the result, the others only end."""


class ImportInput(Model):
    """Input of the import of generation 0.

    For a uri that begins with hf:// the environment has HF_ENDPOINT, the hub of the installation,
    and HF_TOKEN, if a Secret of the update has this key.
    """

    uri: str
    digest: Digest | None = None


class Unreferenced(Model):
    """Weights, adapters, Fisher information and buffers that no generation names are deleted too.

    A training that fails after it wrote them leaves such folders, or a generation that is deleted
    by a user.
    """

    kept: list[Digest]
    """Digests of everything that is named."""
    since: Time
    """Only folders that were written after this time: older ones may be of an earlier update of
    the same name, whose generations may still be restored."""
    until: Time
    """Only folders that were written before this time: newer ones may not be in status yet."""


class CollectInput(Model):
    """Input of a collect Job: the folders to delete, as paths or URIs below the home folder."""

    delete: list[str]
    unreferenced: Unreferenced | None = None
    """What else to delete. None: nothing."""


class RunFile(Model):
    """`run.json`: the complete input of one stage."""

    stage: Stage
    namespace: str
    update: str
    number: int | None = None
    attempt: int = 1
    job: str
    result: str = ""
    """Name of the result below `<home>/results`. All attempts at the same work share it: a new
    attempt finds the result that an earlier one committed and emits it again under its own Job
    name. Of stage tokenize it is that of the training: once that is there, nothing is tokenized.
    Default: the Job's name."""
    home: str
    """Folder of the update on the storage: `<storage>/<namespace>/<update>`. A path on a claim, a
    URI in an object store."""
    recipe: Recipe
    tracking: Tracking | None = None
    """Where training and evaluation report to, besides their result. None: nowhere."""
    probe: ProbeInput | None = None
    tokenize: TokenizeInput | None = None
    train: TrainInput | None = None
    evaluate: EvaluateInput | None = None
    imported: Annotated[ImportInput | None, Field(alias="import")] = None
    collect: CollectInput | None = None


class WindowFound(Model):
    """A window of frozen rows, with counts."""

    manifest: Uri
    """URI of the folder of the frozen rows."""
    digest: Digest
    from_: Annotated[Time | None, Field(alias="from")] = None
    to: Time | None = None
    """End of the training rows (t1). None if only a holdout was requested."""
    holdout_from: Time
    holdout_to: Time
    partitions: list[Word] = []
    """Training partitions; only the newest 200 of a longer list."""
    holdout_partitions: list[Word] = []
    rows: Count = 0
    unlabelled_rows: Count = 0
    """Those of `rows` without a label: the parent labels some of them for the training."""
    reserved_rows: Count = 0
    holdout_rows: Count = 0
    holdout_entities: Count = 0
    holdout_positives: Count = 0
    excluded_rows: Count | None = None
    """Rows that were left out because a generation of excludedGenerations served them. None: the
    image does not know the column servedGeneration, and left out none."""


class ProbeOutput(Model):
    """Output of a probe."""

    reason: Reason
    """WindowReady, NotEnoughData, NoNewData or NotComplete."""
    message: Line
    pending_rows: Count = 0
    newest_partition: Word | None = None
    window: WindowFound | None = None
    gaps: Annotated[list[Word], Field(max_length=64)] = []
    """Partitions that are overdue by more than data.window.maxGap, oldest first. The window leaves
    them out, and the operator quarantines them by name."""


class ServedForm(Model):
    """An optimized form of an artifact, committed beside it as the folder `sha256-<hex>`.

    It has no uri of its own, because the result of a training must fit a termination message.
    """

    digest: Digest
    bytes: Count
    quantization: Literal["Int8Dynamic"] | None = None
    """None: the weights are in FP32."""
    sparsity: Sparsity | None = None
    """As in the recipe. None: no weight was set to zero."""

    def describe(self) -> str:
        """Return the form in a few words, such as "Int8Dynamic, sparsity 0.5"."""
        return form_in_words(self.quantization, self.sparsity)


class CommittedArtifact(Model):
    """An artifact that was committed to the storage."""

    uri: Uri
    digest: Digest
    bytes: Count
    head: Literal["Trained", "Seeded"] = "Trained"
    commit: Commit | None = None
    """Commit of the repository of a hub that was imported. None: it is of no hub."""
    served: ServedForm | None = None
    """What is evaluated and served in its place. None: the artifact itself, without
    serving.optimise."""

    @property
    def served_digest(self) -> str:
        """Digest of the files that are evaluated and served."""
        return self.served.digest if self.served else self.digest

    @property
    def served_uri(self) -> str:
        """Folder of the files that are evaluated and served."""
        if self.served is None:
            return self.uri
        return f"{self.uri.rpartition('/')[0]}/{self.served.digest.replace(':', '-')}"


class CommittedAdapter(Model):
    """An adapter that was committed to the storage, beside the weights that have it merged."""

    uri: Uri
    digest: Digest
    bytes: Count = 0
    base: Digest
    """Digest of the weights that it belongs to."""
    continued: bool = False
    """Whether the training continued the adapter of the parent."""


class TrainOutput(Model):
    """Output of training."""

    artifact: CommittedArtifact
    steps: Count = 0
    rows: Count = 0
    seconds: Seconds = 0.0
    metrics: dict[Annotated[str, Field(max_length=100)], float] = {}
    stop_reason: Line = ""
    """Why training stopped: all epochs completed, patience exhausted, or maxSteps."""
    replay: Replayed | None = None
    """What was replayed; None without training.retention.replay."""
    pseudo_labels: PseudoLabelled | None = None
    """What was labelled; None without training.unlabelled.pseudoLabels."""
    buffer: ReplayBuffer | None = None
    """What the next generation may replay; None without training.retention.replay."""
    adapter: CommittedAdapter | None = None
    """What the next generation may continue; None unless lora.continuation is Continue."""
    fisher: Digest | None = None
    """Fisher information for the next generation, committed beside the artifact as the folder
    `sha256-<hex>`; None without training.retention.ewc."""
    warnings: Warnings = []


RuleRow = tuple[
    str,  # rule
    float | None,  # candidate's value
    float | None,  # its lower bound, one-sided
    float | None,  # its upper bound
    float | None,  # live model's value
    float | None,  # its lower bound
    float | None,  # its upper bound
    float | None,  # delta: candidate minus live, with the sign of the metric
    float | None,  # its lower bound
    float | None,  # its upper bound
    float | None,  # standard error of the candidate's value
    float | None,  # standard error of the live model's value
    Count,  # contributing entities; the smallest count if the rule has several numbers
    Count,  # positives
]
"""Numbers of one rule, by position, so that 16 rules fit into a termination message. NaN is
null."""


ReferenceRow = tuple[
    float | None,  # the reference's value
    float | None,  # delta: candidate minus reference, with the sign of the metric
    float | None,  # its lower bound, one-sided
    float | None,  # its upper bound
]


class EvaluateOutput(Model):
    """Output of the evaluation: the measured numbers.

    The operator derives the verdict from them.
    """

    rules: list[RuleRow]
    trivial_baseline: list[float | None] = []
    """For each of `rules`, in the same order: the score of a trivial baseline on the same rows,
    such as the accuracy of the majority label. An absolute bound must require more than that."""
    versus_reference: list[ReferenceRow | None] = []
    """For each of `rules`, in the same order: the comparison with the reference generation; null if
    the rule has no maxCumulativeRegression. Empty if no rule has one."""
    candidate_digest: Digest
    baseline_digest: Digest | None = None
    reference_digest: Digest | None = None
    holdout_digest: Digest
    report: Uri
    """URI of the folder with report.html, metrics.json and the scores."""
    seconds: Seconds = 0.0
    warnings: Warnings = []


class Failure(Model):
    """Why a stage failed."""

    reason: Reason
    """Machine-readable reason, such as MissingColumn or UnsafeArtifact."""
    message: Line
    """Human-readable details: what failed, where, and what to do."""
    field: Line = ""
    """Path of the spec field that the user must change, if there is one."""


class Result(Model):
    """`result.json` and the termination message."""

    job: str
    """Name of the Job. The operator ignores the result of another Job."""
    stage: Stage
    number: int | None = None
    ok: bool
    failure: Failure | None = None
    probe: ProbeOutput | None = None
    train: TrainOutput | None = None
    evaluate: EvaluateOutput | None = None
    imported: Annotated[CommittedArtifact | None, Field(alias="import")] = None
