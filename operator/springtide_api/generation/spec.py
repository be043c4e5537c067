"""The spec of a `ModelGeneration`: one version of the model, written by the operator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.generation.continuation import Continuation
from springtide_api.schema import (
    Digest,
    Model,
    Text,
    Time,
    Uri,
    Word,
    cel,
    immutable_but,
)
from springtide_api.update.data import Data
from springtide_api.update.gate import Evaluation, Gate
from springtide_api.update.model import InitialModel, ModelSpec, Serving
from springtide_api.update.spec import Storage
from springtide_api.update.training import Training

Number = Annotated[int, Field(ge=0, le=2_147_483_647)]
"""Number of a generation."""

MAX_EXCLUDED = 256
"""Generations whose rows a run leaves out, at most."""


class UpdateRef(Model):
    """The update that this generation belongs to."""

    name: Annotated[str, Field(min_length=1, max_length=32)]
    """Name of the IncrementalUpdate in the same namespace; its uid is a label."""


class Ancestor(Model):
    """Another generation, by name and content."""

    name: Word
    """Name of the ModelGeneration."""
    digest: Digest
    """Digest of its weights; as baseline and reference, of the form in which it is served."""


class Range(Model):
    """A time range: from is included, to is not."""

    from_: Annotated[Time | None, Field(alias="from")] = None
    """Start, included. Unset: from the first row."""
    to: Time
    """End, excluded."""


class ReplayBuffer(Model):
    """Rows that a generation leaves for the replay of the next one. Immutable."""

    uri: Uri
    """Folder of the rows."""
    digest: Digest
    """Digest of the rows."""
    rows: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Number of rows."""


class GenerationData(Model):
    """The data of a run. It is frozen before training starts."""

    windows: Annotated[list[Range], Field(max_length=17)] = []
    """Time ranges of the training rows."""
    partitions: Annotated[list[Word], Field(max_length=512)] = []
    """Training partitions, named by the start of their period."""
    quarantined: Annotated[list[Word], Field(max_length=16)] = []
    """Partitions that were left out because they were quarantined."""
    excluded_generations: Annotated[list[Number], Field(max_length=MAX_EXCLUDED)] = []
    """Generations that were rolled back: the rows that they served were left out. Empty without
    data.source.columns.servedGeneration. Of more than 256, the newest."""
    excluded_rows: int = 0
    """Rows that were left out of training rows and holdout because such a generation served
    them."""
    holdout: Range | None = None
    """Time range of the first holdout; later holdouts are in status.evaluation."""
    holdout_partitions: Annotated[list[Word], Field(max_length=366)] = []
    """Partitions of the first holdout."""
    manifest: Uri | None = None
    """Folder of the frozen rows and their manifest."""
    digest: Digest | None = None
    """Digest of the manifest."""
    rows: int = 0
    """Training rows, with those without a label."""
    unlabelled_rows: int = 0
    """Training rows without a label. Those that the parent is sure of are trained on, as in
    status.training.pseudoLabels."""
    holdout_rows: int = 0
    """Rows of the holdout."""
    holdout_entities: int = 0
    """Entities of the holdout."""
    holdout_positives: int = 0
    """Holdout rows with the positive label (with more than two labels: the rarest label; for
    Regression: all rows)."""
    reserved_rows: int = 0
    """Reserved rows of the training range; they become the historical shard of this generation."""
    historical: Annotated[list[Uri], Field(max_length=64)] = []
    """Historical shards of earlier generations, oldest first."""
    buffer: ReplayBuffer | None = None
    """Buffer of the parent, from which rows are replayed; unset without training.retention.replay,
    or if the parent left none."""
    fisher: Digest | None = None
    """Digest of the parent's Fisher information; unset without training.retention.ewc, or if the
    parent left none."""


class Recipe(Model):
    """A copy of the parts of the update's spec that this generation was made with.

    training.image is the image that was used, also if it is the default of the installation, and
    training.hyperparameters.learningRate the number that was used, also if it is the default of the
    method. training.method is the method that was used: Full where lora.rebaseEvery was reached.
    """

    model: ModelSpec
    data: Data
    training: Training
    evaluation: Evaluation
    gate: Gate
    storage: Storage
    serving: Serving | None = None


class Approval(Model):
    """The decision of a person on an accepted generation."""

    decision: Literal["Approved", "Rejected"]
    """Approved: it is rolled out. Rejected: it is retired, and the live generation stays."""
    reason: Text = ""
    """Why, for the Events and the message of the generation."""


@immutable_but(
    "approval",
    "the spec of a generation is immutable but for approval; change the IncrementalUpdate, the next"
    " run follows it",
)
@cel(
    "!has(oldSelf.approval) || (has(self.approval) && self.approval == oldSelf.approval)",
    "approval is final: it can be set once, and neither changed nor removed; to withdraw a"
    " generation that was approved, annotate the IncrementalUpdate with"
    " springtide.dev/request=rollback.g<number>@<token>",
)
@cel(
    "(self.origin == 'Imported') == has(self.initial)",
    "set initial if and only if origin is Imported",
)
@cel(
    "!has(self.approval) || self.origin == 'Trained'",
    "an imported generation needs no approval; remove approval",
    "origin",
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
    """What the generation is made from. Immutable but for approval."""

    update_ref: UpdateRef
    """The update that this generation belongs to."""
    number: Number
    """Number, unique for the update and never reused. The imported initial model is 0."""
    origin: Literal["Imported", "Trained"]
    """Imported: from model.initial. Trained: from its parent."""
    trigger: Literal["", "Schedule", "OnData", "Request"] = ""
    """What started the run."""
    parent: Ancestor | None = None
    """The generation whose weights the training started from."""
    baseline: Ancestor | None = None
    """The live generation that it is compared with; unset for the first generation."""
    reference: Ancestor | None = None
    """The generation that rules with maxCumulativeRegression compare it with."""
    data: GenerationData | None = None
    """The data of the run; unset for an imported generation."""
    continuation: Continuation | None = None
    """What the training does with the adapter of its parent; unset unless
    training.method.lora.continuation is Continue."""
    initial: InitialModel | None = None
    """Source of an imported generation."""
    recipe: Recipe
    """A copy of the parts of the update's spec that this generation was made with."""
    image_digest: Digest | None = None
    """Digest of the trainer image, as the node reported it for the probe that found the data; unset
    if it is unknown. It is part of recipeHash, so another image under the same tag is another
    recipe."""
    recipe_hash: Digest
    """Digest of everything that determines weights and verdict: model, data, training with its
    image, evaluation, gate and serving."""
    approval: Approval | None = None
    """Decision of a person, where gate.approval of the update is Manual. It can be set once the
    verdict is Accepted and before the rollout starts, once, by whoever has the verb approve on
    modelgenerations."""
