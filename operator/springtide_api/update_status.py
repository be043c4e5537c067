"""What the operator tells: the status of an `IncrementalUpdate`.

`cursor.quarantined`, `cursor.released`, `lastRequest`, `lastProbe`, `acknowledgedHolds` and
`counters` are stored only here. Everything else is derived from generations, Jobs and targets at
each reconcile.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Digest, Model, ObjectName, Text, Time, Word


class Condition(Model):
    """One aspect of the state; positive polarity."""

    type: Annotated[str, Field(max_length=64)]
    """Aspect, such as Ready or Serving."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=128)]
    """One word for machines."""
    message: Text = ""
    """A sentence for people: what, where and what to do."""
    observed_generation: int = 0
    """metadata.generation that this speaks of."""
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
    """A generation of this update."""

    name: Word
    """Name of the ModelGeneration."""
    number: int
    """Its number."""
    digest: Digest | None = None
    """Digest of its weights as served."""
    since: Time | None = None
    """When it took this role."""


class Cursor(Model):
    """Where in the stream of data the update stands."""

    trained_through: Time | None = None
    """End of the data that the live model has seen; it moves only at a promotion."""
    pending_rows: int = 0
    """Complete new rows that no live model has seen."""
    newest_partition: Word | None = None
    """Newest complete partition, by the start of its period."""
    quarantined: Annotated[list[Word], Field(max_length=16)] = []
    """Quarantined partitions: used neither for training nor in a holdout."""
    released: Annotated[list[Word], Field(max_length=16)] = []
    """Partitions released from quarantine that no live model was trained on yet. They are used for
    training, never in a holdout."""
    proposed_for_quarantine: Annotated[list[Word], Field(max_length=16)] = []
    """Partitions proposed for quarantine; accept with the request quarantine@<token>."""


class Freshness(Model):
    """How fresh the served model is."""

    served_data_through: Time | None = None
    """End of the data that the live model has seen. Its age is the age of this moment."""


class LastRun(Model):
    """The newest run and what came of it."""

    generation: Word
    """Name of its ModelGeneration."""
    trigger: Word = ""
    """What started it: Schedule, OnData or Request."""
    verdict: Word = "Pending"
    """What the gate said."""
    outcome: Word = ""
    """What became of the generation: Live, Superseded, RolledBack, Rejected, Inconclusive, Failed
    or Retired; empty while that is open."""
    summary: Word = ""
    """The column Last-Run: outcome, or verdict, and number, such as "RolledBack g4"."""
    reason: Word = ""
    """Why, in one word."""
    message: Text = ""
    """Why, in a sentence with rule, number and bound."""
    manifest_digest: Digest | None = None
    """Digest of the data that it was trained and judged on."""


class LastRequest(Model):
    """Echo of the annotation springtide.dev/request."""

    token: Word
    """Token of the request."""
    verb: Word
    """Verb of the request."""
    result: Word
    """Accepted, Refused or Recorded: found on an update without history, not run."""
    message: Text = ""
    """What was done, or why not."""


class LastProbe(Model):
    """The last look for new data."""

    finished_at: Time
    """When it ended."""
    job: Word
    """Job that looked."""
    job_uid: Annotated[str, Field(max_length=64)] = ""
    """Its uid: a request that is made again has a Job of the same name."""
    reason: Word
    """WindowReady, NotEnoughData, NoNewData, NotComplete or an error's name."""
    message: Text = ""
    """What was found, with numbers."""
    failures: int = 0
    """Looks in a row that failed."""


class Progress(Model):
    """How far the present stage has come."""

    stage: Word = ""
    """Stage: Probe, Import, Train, Evaluate or Rollout."""
    percent: Annotated[int | None, Field(ge=0, le=100)] = None
    """Share done, 0 to 100."""
    eta_seconds: Annotated[int | None, Field(ge=0)] = None
    """Estimated seconds to the end of the stage."""
    waiting_for: Text = ""
    """What it waits for, in words: a GPU, more data, a cooldown, a person."""
    summary: Word = ""
    """The column Progress: percent and time left, or what it waits for in short."""


class TargetStatus(Model):
    """One target as observed."""

    name: ObjectName
    """Name of the Deployment."""
    generation: int | None = None
    """Number of the generation in its template; none before the first roll."""
    digest: Digest | None = None
    """Digest in its template."""
    available: int = 0
    """Available pods of the newest template."""
    desired: int = 0
    """Replicas that the Deployment asks for."""
    message: Text = ""
    """What keeps it back."""
    reapplied_at: Annotated[list[Time], Field(max_length=3)] = []
    """When our fields, wiped by somebody, were last put back; at most 3 times an hour."""


class Counters(Model):
    """Sums over the life of the update."""

    runs: int = 0
    """Runs started."""
    promoted: int = 0
    """Generations promoted."""
    rolled_back: int = 0
    """Generations whose rollout was rolled back."""
    rejected: int = 0
    """Generations that the gate rejected."""
    failed: int = 0
    """Generations that came to no verdict."""
    gpu_seconds: int = 0
    """Running seconds times GPUs of the pods of training and evaluation."""


class HistoryEntry(Model):
    """One generation, in short."""

    number: int
    """Number of the generation."""
    verdict: Word
    """What the gate said."""
    outcome: Word = ""
    """What became of the generation; empty while that is open."""
    reason: Word = ""
    """Why, in one word."""
    trained_through: Time | None = None
    """End of its training data."""
    finished_at: Time | None = None
    """When its run ended."""


class UpdateStatus(Model):
    """What the operator knows and does. Written by the operator alone."""

    observed_generation: int = 0
    """metadata.generation of the spec that this status speaks of."""
    phase: Word = "Idle"
    """One word for people, derived from the facts; never an input: Idle, Probing, Queued, Training,
    Evaluating, RollingOut, RollingBack, Suspended, OnHold or Invalid."""
    conditions: Conditions = []
    """Ready, Serving, DataReady, LastRunSucceeded, TargetsInSync, ActionRequired (True exactly
    while a person must act, with what to do); Stalled only while True."""
    live: GenerationRef | None = None
    """The generation that was promoted last."""
    previous: GenerationRef | None = None
    """The one that was live before."""
    candidate: GenerationRef | None = None
    """The generation under way."""
    cursor: Cursor = Cursor()
    """Where in the stream of data the update stands."""
    freshness: Freshness = Freshness()
    """How fresh the served model is."""
    last_run: LastRun | None = None
    """The newest run and what came of it."""
    last_request: LastRequest | None = None
    """Echo of the last request."""
    last_probe: LastProbe | None = None
    """The last look for new data."""
    acknowledged_holds: Annotated[list[Word], Field(max_length=16)] = []
    """Holds that a `retry` request ended, as generation/attempt-holdout. They do not hold again."""
    consecutive_failures: int = 0
    """Runs in a row that ended in Failed."""
    progress: Progress = Progress()
    """How far the present stage has come."""
    targets: Annotated[list[TargetStatus], Field(max_length=4)] = []
    """The targets as observed."""
    counters: Counters = Counters()
    """Sums over the life of the update."""
    history: Annotated[list[HistoryEntry], Field(max_length=20)] = []
    """The last generations, the newest first."""
