"""How a candidate keeps what its parent has learnt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from springtide_api.schema import Decimal, Duration, Fraction, Model, cel

ROWS_PER_CLASS = 10
"""Default of `rowsPerClass`, but for tasks without classes."""
WITHOUT_CLASSES = frozenset({"Regression", "Embedding", "CausalLM", "MaskedLM"})
"""Tasks whose rows have no classes."""
ROWS_PER_SLICE = 10
"""Default of `rowsPerSlice` where rows have slices."""
TEMPERATURE = "2"
"""Default of `temperature`, but for Regression."""


@cel(
    "double(self.ratio) > 0.0 || !has(self.rowsPerClass) || self.rowsPerClass > 0"
    " || (has(self.rowsPerSlice) && self.rowsPerSlice > 0)",
    "replay needs ratio, rowsPerClass or rowsPerSlice above 0, else no row is replayed; raise one,"
    " or remove replay",
    "ratio",
)
@cel(
    "!has(self.halfLife) || duration(self.halfLife) >= duration('1h')",
    "halfLife must be at least 1h",
    "halfLife",
)
class Replay(Model):
    """Rows of earlier windows that a candidate is trained on again, beside its new rows.

    Each generation leaves a buffer: a sample of all rows that its lineage was trained on. The next
    run takes the buffer of its parent, so a rejected generation leaves nothing, and a rollback
    restores the older buffer. Rows of reserved entities and of quarantined partitions are never
    replayed. The first run with replay has no buffer yet, and replays nothing.
    """

    ratio: Fraction = "0.2"
    """Replayed rows as a fraction of the new training rows, with those that the parent labelled.
    Default 0.2."""
    rows_per_class: Annotated[int | None, Field(ge=0, le=10_000)] = None
    """Replayed rows of each label, also if they are more than ratio. A row with several labels
    counts for each. For task Ranking, whole groups with rows of each label of ranking.gains.
    Regression, Embedding, CausalLM and MaskedLM have no classes. Default 10."""
    rows_per_slice: Annotated[int | None, Field(ge=0, le=10_000)] = None
    """Replayed rows of each value of columns.slice, also if they are more than ratio; all together
    at most bufferRows. For task Ranking, whole groups. Default 10 where rows have slices."""
    buffer_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Maximum number of rows in the buffer, at least rowsPerClass for each label. Default 20000."""
    half_life: Duration | None = None
    """Time decay: a row is half as likely to be kept in the buffer and to be replayed as one whose
    timestamp is this much later, such as 720h for 30 days; at least 1h. It is time of the events,
    so nothing decays while no data arrives. A group counts by its newest row. rowsPerClass and
    rowsPerSlice take precedence. Default: older rows are as likely as newer ones."""

    @property
    def floor(self) -> int:
        """Replayed rows of each class, if there are classes."""
        return ROWS_PER_CLASS if self.rows_per_class is None else self.rows_per_class

    @property
    def slice_floor(self) -> int:
        """Replayed rows of each slice, if there are slices."""
        return ROWS_PER_SLICE if self.rows_per_slice is None else self.rows_per_slice


@cel(
    "!has(self.alphas) || self.alphas.all(a, double(a) > 0.0)",
    "alphas must be greater than 0; 0 would be the parent, 1 is the candidate",
)
class Interpolation(Model):
    """Interpolation between the weights of parent and candidate (WiSE-FT, arXiv:2109.01903).

    After training, each alpha gives the weights parent + alpha * (candidate - parent). Those that
    are best by the metric of earlyStopping on its validation split become the candidate; the gate
    evaluates them as any other. Outputs that the parent does not have are the candidate's. With
    adapters, the merged weights are interpolated.
    """

    alphas: Annotated[list[Fraction], Field(min_length=1, max_length=8)] = ["1", "0.7", "0.5"]
    """Alphas to try, greater than 0 and at most 1, which is the candidate as it was trained. Of
    equal ones, the highest is chosen. Default 1, 0.7 and 0.5."""


@cel(
    "double(self.weight) > 0.0",
    "weight must be greater than 0; 1 is usual, and with 0 nothing would be distilled",
    "weight",
)
@cel(
    "!has(self.temperature) || double(self.temperature) >= 1.0",
    "temperature must be at least 1; 2 is usual",
    "temperature",
)
class Distillation(Model):
    """Distillation from the live model (Learning without Forgetting, arXiv:1606.09282).

    The candidate also learns the outputs that its parent has for the training rows: weight times
    their divergence is added to the loss. They are computed once, before the first step: a forward
    pass in FP32 over the rows, and 4 bytes for each row and output. Labels that the parent does not
    have are left out.
    """

    weight: Decimal = "1"
    """Weight of the divergence; the loss has weight 1. Default 1."""
    temperature: Decimal | None = None
    """Divides the logits of both models before their probabilities are compared, at least 1
    (arXiv:1503.02531). Regression has none: it compares numbers. Default 2."""


@cel(
    "double(self.strength) > 0.0",
    "strength must be greater than 0; with 0 no weight would be held",
    "strength",
)
class EWC(Model):
    """Elastic weight consolidation (arXiv:1612.00796), online (arXiv:1805.06370).

    The more the predictions for earlier rows depend on a weight, the less it moves: strength / 2
    times its Fisher information times the square of its distance from the parent's is added to the
    loss. Each generation leaves the diagonal of its Fisher information, 4 bytes for each trained
    weight and no row. The next run takes that of its parent, as with replay; the first run has
    none. Needs a second and a third copy of the trained weights in memory. Needs method Full.
    """

    strength: Decimal
    """Weight of the penalty; the loss has weight 1. It depends on model and data: try 10, 100, 1000
    and 10000."""
    gamma: Fraction = "0.9"
    """What the Fisher information of the parent counts in that of the next generation, to which the
    own is added. 1 forgets nothing, 0 all but the last window. Default 0.9."""
    rows: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Training rows (for task Ranking: groups) of which the Fisher information is computed after
    training, at most: a forward and a backward pass of each, several together. Default 1000."""


@cel(
    "has(self.replay) || has(self.interpolation) || has(self.distillation) || has(self.ewc)",
    "retention needs replay, interpolation, distillation or ewc; set one, or remove retention",
)
class Retention(Model):
    """How a candidate keeps what its parent has learnt."""

    replay: Replay | None = None
    """Rows of earlier windows that are trained on again. Default: none."""
    interpolation: Interpolation | None = None
    """Interpolation between the weights of parent and candidate, chosen on the validation split.
    Needs earlyStopping. Default: the candidate as it was trained."""
    distillation: Distillation | None = None
    """Outputs of the live model that are learnt too. No effect where the parent's head is
    untrained. Default: none."""
    ewc: EWC | None = None
    """Penalty on moving the weights that earlier rows depend on. Default: none."""

    def resolved(self, task: str, *, slices: bool) -> Retention:
        """Return the options with the defaults that depend on the task and on the columns."""
        changes: dict[str, object] = {}
        if self.replay is not None:
            floors = {
                "rows_per_class": 0 if task in WITHOUT_CLASSES else self.replay.floor,
                "rows_per_slice": self.replay.slice_floor if slices else None,
            }
            changes["replay"] = self.replay.model_copy(update=floors)
        if self.distillation is not None and task != "Regression":
            chosen = {"temperature": self.distillation.temperature or TEMPERATURE}
            changes["distillation"] = self.distillation.model_copy(update=chosen)
        return self.model_copy(update=changes)
