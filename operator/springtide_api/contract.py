"""What operator and trainer say to each other; any image may implement it.

In: `/springtide/run.json`, a `RunFile`. Out: `result.json` in the storage, mirrored to the
termination message (at most 4096 bytes), a `Result`. Progress: POST of the Kubeflow trainer-status
JSON. Nothing is scraped from logs.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field

from springtide_api.generation import Recipe
from springtide_api.schema import Digest, Line, Model, Time, Uri, Word

TERMINATION_MESSAGE = "/dev/termination-log"
TERMINATION_LIMIT = 4096
"""Bytes that the kubelet keeps of a termination message."""

Stage = Literal["import", "probe", "train", "evaluate", "collect"]

Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]
"""Numbers that a status takes: any image may write a result."""


Reason = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,63}$")]
"""One word for machines."""


class ExitCode(IntEnum):
    """How a stage ended. Other codes of 128 and above are killed pods: try again."""

    DONE = 0
    INVALID_INPUT = 3
    """The user must act: a missing column, an unsafe artifact."""
    TOO_LITTLE_DATA = 4
    DIVERGED = 5
    OUT_OF_MEMORY = 42
    """Adapt and try again."""
    ENVIRONMENT = 75
    """The surroundings failed, such as a full disk: try again as it is."""


class ArtifactRef(Model):
    """Weights by place and content."""

    uri: str
    digest: Digest


class ProbeInput(Model):
    """What a probe must know. Times are UTC; partitions are named by the start of their period."""

    now: Time
    """The API server's clock; decides which partitions are complete."""
    cursor: Time | None = None
    """Rows from here on are new. None: from the first row."""
    quarantined: list[str] = []
    released: list[str] = []
    """Partitions released from quarantine: used for training, never in a holdout."""
    candidate_trained_through: Time | None = None
    """Set while a candidate waits for a holdout: no training window is cut, only the holdout that
    begins here."""
    referenced: list[str] | None = None
    """Folders of `<home>/data` that generations name, all of them: the probe removes others that
    are older than a week. None: it removes nothing."""


class TrainInput(Model):
    """What training must know."""

    parent: ArtifactRef
    data: ArtifactRef
    """Folder of the frozen rows."""
    checkpoints: str
    """Folder of this generation's checkpoints, shared by its attempts."""
    batch_divisor: int = 1


class EvaluateInput(Model):
    """What judging must know."""

    candidate: ArtifactRef
    baseline: ArtifactRef | None = None
    holdout: ArtifactRef
    """Folder of the frozen rows that judge."""
    reference: ArtifactRef | None = None
    """The generation that rules with maxCumulativeRegression compare with."""
    historical: list[str] = []
    """Folders of the shards of the lineage, oldest first."""
    confidence: float = 0.95
    """One-sided confidence of each bound, after sharing the error between looks."""
    parent_number: int | None = None


class ImportInput(Model):
    """What the import of generation 0 must know."""

    uri: str
    digest: Digest | None = None


class CollectInput(Model):
    """What may go: folders below the storage of this update, each an explicit path."""

    delete: list[str]


class RunFile(Model):
    """`run.json`: one stage of one generation, complete."""

    stage: Stage
    namespace: str
    update: str
    number: int | None = None
    attempt: int = 1
    job: str
    result: str = ""
    """Name of the result below `<home>/results`: the same for every attempt at one thing, so that a
    new attempt finds what an earlier one committed and emits it again under its own job. Default:
    the Job's name."""
    home: str
    """Folder of this update in the storage: `<storage>/<namespace>/<update>`, as a path."""
    recipe: Recipe
    probe: ProbeInput | None = None
    train: TrainInput | None = None
    evaluate: EvaluateInput | None = None
    imported: Annotated[ImportInput | None, Field(alias="import")] = None
    collect: CollectInput | None = None


class WindowFound(Model):
    """A window that is ready: frozen rows with their counts."""

    manifest: Uri
    """file:// folder of the frozen rows."""
    digest: Digest
    from_: Annotated[Time | None, Field(alias="from")] = None
    to: Time | None = None
    """t1: training rows lie before it. None where only a holdout was asked for."""
    holdout_from: Time
    holdout_to: Time
    partitions: list[Word] = []
    """Training partitions; long lists are shortened to their newest 200."""
    holdout_partitions: list[Word] = []
    rows: Count = 0
    reserved_rows: Count = 0
    holdout_rows: Count = 0
    holdout_entities: Count = 0
    holdout_positives: Count = 0


class ProbeOutput(Model):
    """What a probe found."""

    reason: Reason
    """WindowReady, NotEnoughData, NoNewData or NotComplete."""
    message: Line
    pending_rows: Count = 0
    newest_partition: Word | None = None
    window: WindowFound | None = None
    gaps: Annotated[list[Word], Field(max_length=64)] = []
    """Partitions that were due and not delivered within data.window.maxGap, oldest first. The
    window leaves them out; the operator quarantines them by name."""


class ArtifactMade(Model):
    """An artifact that was committed."""

    uri: Uri
    digest: Digest
    bytes: Count
    head: Literal["Trained", "Seeded"] = "Trained"


class TrainOutput(Model):
    """What training made."""

    artifact: ArtifactMade
    steps: Count = 0
    rows: Count = 0
    seconds: Seconds = 0.0
    metrics: dict[Annotated[str, Field(max_length=100)], float] = {}
    stop_reason: Line = ""
    """Why it stopped: all epochs completed, patience exhausted, maxSteps."""


RuleRow = tuple[
    str,  # rule
    float | None,  # candidate's value
    float | None,  # its low bound, one-sided
    float | None,  # its high bound
    float | None,  # live model's value
    float | None,  # its low bound
    float | None,  # its high bound
    float | None,  # delta: candidate minus live, in the metric's own sign
    float | None,  # its low bound
    float | None,  # its high bound
    float | None,  # standard error of the candidate's value
    float | None,  # standard error of the live model's value
    Count,  # entities that the rule's numbers rest on; of several numbers the fewest
    Count,  # positives
]
"""One rule, by position, so that 16 of them fit a termination message. NaN travels as null."""


ReferenceRow = tuple[
    float | None,  # the reference's value
    float | None,  # delta: candidate minus reference, in the metric's own sign
    float | None,  # its low bound, one-sided
    float | None,  # its high bound
]


class EvaluateOutput(Model):
    """What was measured; the operator judges."""

    rules: list[RuleRow]
    trivial_baseline: list[float | None] = []
    """For each of `rules`, in its order: what a trivial baseline scores on the same rows,
    such as the majority's accuracy. Absolute bounds must ask for more."""
    versus_reference: list[ReferenceRow | None] = []
    """For each of `rules`, in its order, the comparison with the reference; null where the rule
    asks for none. Empty where no rule does."""
    candidate_digest: Digest
    baseline_digest: Digest | None = None
    reference_digest: Digest | None = None
    holdout_digest: Digest
    report: Uri
    """file:// folder with report.html, metrics.json and the scores."""
    seconds: Seconds = 0.0


class Failure(Model):
    """Why a stage did not get through, for people."""

    reason: Reason
    """One word, such as MissingColumn or UnsafeArtifact."""
    message: Line
    """What, where and what to do."""
    field: Line = ""
    """Path of the field that the user must change, if it is one."""


class Result(Model):
    """`result.json` and the termination message."""

    job: str
    """Name of the Job: results of another one are foreign."""
    stage: Stage
    number: int | None = None
    ok: bool
    failure: Failure | None = None
    probe: ProbeOutput | None = None
    train: TrainOutput | None = None
    evaluate: EvaluateOutput | None = None
    imported: Annotated[ArtifactMade | None, Field(alias="import")] = None
