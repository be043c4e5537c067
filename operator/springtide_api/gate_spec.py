"""What a candidate must prove: where it is scored, by which rules, and what doubt leads to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Decimal, Fraction, Model, Name, Uri, cel

Metric = Annotated[
    str,
    Field(
        max_length=16,
        pattern=r"^(auc|pr_auc|log_loss|accuracy|macro_f1|ece|ndcg@[1-9][0-9]{0,2})$",
    ),
]
"""A built-in metric. log_loss and ece are better when lower, the others when higher."""


@cel(
    "(self.role == 'Guardrail') == has(self.uri)",
    "set uri if and only if role is Guardrail; the rows of the other roles come from data",
)
class Dataset(Model):
    """Rows on which candidate and live model are both scored."""

    name: Name
    """Name of the dataset in rules and reports."""
    role: Literal["Holdout", "Historical", "Guardrail"]
    """Holdout: the rows after the training rows. Historical: the reserved rows of earlier
    windows. Guardrail: a file of your own that must stay right."""
    uri: Uri | None = None
    """A Guardrail's file, in the format and with the columns of data.source; present if and only
    if role is Guardrail."""


@cel(
    "double(self.confidence) >= 0.5 && double(self.confidence) < 1.0",
    "confidence must be at least 0.5 and less than 1; 0.95 is usual",
    "confidence",
)
class Bootstrap(Model):
    """The paired bootstrap over entities (cluster bootstrap)."""

    samples: Annotated[int, Field(ge=200, le=20_000)] = 2000
    """Resamples at least; a bound far out in the tail gets as many as it needs. Default 2000."""
    confidence: Fraction = "0.95"
    """One-sided confidence of each bound. Interim analyses share the error rate. Default 0.95."""


class Reference(Model):
    """The generation that maxCumulativeRegression compares with."""

    generation: Annotated[int | None, Field(ge=0, le=2_147_483_647)] = None
    """Number of a generation that was promoted, to pin it. Default: the last one that was proven
    better than the live model; while there is none, the oldest that is kept."""


@cel(
    "!has(self.datasets) || self.datasets.all(a, self.datasets.exists_one(b, a.name == b.name))",
    "dataset names must be unique; rename one",
)
@cel(
    "!has(self.datasets) || self.datasets.filter(d, d.role == 'Holdout').size() <= 1",
    "at most one dataset may have role Holdout; there is one holdout in each window",
)
class Evaluation(Model):
    """On which data candidate and live model are compared, in one Job, on the same rows."""

    datasets: Annotated[list[Dataset], Field(min_length=1, max_length=8)] = [
        Dataset(name="holdout", role="Holdout")
    ]
    """Datasets by name. Default: one named holdout."""
    bootstrap: Bootstrap = Bootstrap()
    """How intervals are made. Default: 2000 samples, 95 % one-sided."""
    reference: Reference | None = None
    """The generation that maxCumulativeRegression compares with, scored on the same rows in the
    same Job. Default: the last one that was proven better than the live model."""


@cel(
    "has(self.absolute) != has(self.relative)",
    "set either absolute or relative; remove the other",
)
@cel(
    "!has(self.absolute) || double(self.absolute) >= 0.0",
    "absolute must not be negative; a margin is a distance",
    "absolute",
)
@cel(
    "!has(self.relative) || double(self.relative) >= 0.0",
    "relative must not be negative; a margin is a distance",
    "relative",
)
class Margin(Model):
    """A distance from the live model's value."""

    absolute: Decimal | None = None
    """In units of the metric, such as "0.005". Either this or relative."""
    relative: Decimal | None = None
    """As a share of the live model's value, such as "0.01". Either this or absolute."""


@cel(
    "has(self.min) || has(self.max) || has(self.minImprovement) || has(self.maxRegression)"
    " || has(self.maxCumulativeRegression)",
    "a rule needs at least one of min, max, minImprovement, maxRegression and"
    " maxCumulativeRegression; add one",
)
@cel(
    "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)",
    "min must not be greater than max; nothing could pass",
    "min",
    "max",
)
@cel(
    "!(has(self.minImprovement) && has(self.maxRegression))",
    "set minImprovement or maxRegression, not both: who must be better may not be worse",
)
class Rule(Model):
    """One thing that a candidate must prove, by a confidence bound and not by a point."""

    name: Name
    """Name of the rule in status, events and report."""
    metric: Metric
    """What is measured: auc, pr_auc, log_loss, accuracy, macro_f1, ece or ndcg@<k>."""
    dataset: Name = "holdout"
    """Dataset of evaluation.datasets. Default holdout."""
    min: Decimal | None = None
    """The candidate's own value must be at least this, such as "0.6". Default: no bound."""
    max: Decimal | None = None
    """The candidate's own value must be at most this, such as "0.7". Default: no bound."""
    min_improvement: Margin | None = None
    """The candidate must be better than live by more than this; "0" is plain superiority."""
    max_regression: Margin | None = None
    """The candidate may be worse than live by less than this (non-inferiority)."""
    max_cumulative_regression: Margin | None = None
    """The candidate may be worse than the generation of evaluation.reference by less than this:
    losses within maxRegression must not add up from generation to generation."""
    min_entities: Annotated[int, Field(ge=10, le=1_000_000_000)] = 30
    """Fewer contributing entities than this decide nothing. Entities contribute where the number
    rests on them: to an AUC those with the rarer kind of row, to a difference those in which the
    models differ. At least 10. Default 30."""
    min_positives: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    """Fewer rows of the positive (with many labels: of the rarest) label decide nothing.
    Default: any number may."""
    severity: Literal["Required", "Warn"] = "Required"
    """Required rules must all pass; Warn rules are only reported. Default Required."""


@cel(
    "double(self.absolute) >= 0.0",
    "absolute must not be negative; a drop is a distance",
    "absolute",
)
@cel(
    "double(self.relative) >= 0.0",
    "relative must not be negative; a drop is a distance",
    "relative",
)
class HoldoutDrop(Model):
    """How far live's own score may fall from holdout to holdout before the holdout is suspect."""

    absolute: Decimal = "0.05"
    """For metrics that are better when higher, in units of the metric. Default "0.05"."""
    relative: Decimal = "0.2"
    """For log_loss and ece, a rise as a share of the last score. Default "0.2"."""


class ExtendHoldout(Model):
    """Wait for more data and judge the same candidate again."""

    max_interim_analyses: Annotated[int, Field(ge=1, le=3)] = 3
    """Evaluations of one candidate on successive holdouts, at most. They share the error rate of
    one. Default 3."""


@cel(
    "(self.type == 'ExtendHoldout') == has(self.extendHoldout)",
    "set extendHoldout (it may be {}) if and only if type is ExtendHoldout",
)
class OnInconclusive(Model):
    """What happens when the evidence decides nothing."""

    type: Literal["ExtendHoldout", "Hold", "Reject"]
    """ExtendHoldout waits for more data, Hold for a person, Reject gives the candidate up."""
    extend_holdout: ExtendHoldout | None = None
    """How often the candidate is evaluated again; present if and only if type is ExtendHoldout."""


@cel(
    "self.rules.exists(r, r.severity == 'Required' && r.metric != 'ece'"
    " && (r.metric == 'log_loss' ? has(r.max) : has(r.min)))",
    "rules needs a Required rule with min (log_loss: max; ece does not count, for a constant is"
    " perfectly calibrated), because a comparison alone passes two models that are equally bad;"
    " add one such as {name: floor, metric: auc, min: '0.6'}",
)
@cel(
    "self.rules.all(a, self.rules.exists_one(b, a.name == b.name))",
    "rule names must be unique; rename one",
)
@cel(
    "self.rules.filter(r, has(r.maxCumulativeRegression)).size() <= 4",
    "at most 4 rules may have maxCumulativeRegression; remove it from others",
)
class Gate(Model):
    """What a candidate must prove before it may be served.

    All Required rules must pass; one that is refuted rejects; otherwise the evidence is
    inconclusive.
    """

    rules: Annotated[list[Rule], Field(min_length=1, max_length=16)]
    """What must hold, each rule judged by a one-sided confidence bound. At least one Required rule
    needs min (log_loss: max), on a dataset whose role is not Historical. On the holdout it must
    ask for more than a trivial baseline scores there: the order of chance, the majority."""
    max_holdout_drop: HoldoutDrop = HoldoutDrop()
    """The holdout is suspect where live scores worse on it than on the last one by more than this
    and by more than three standard errors, and the candidate does not do better. Default: 0.05,
    and for log_loss and ece 20 %."""
    on_inconclusive: OnInconclusive = OnInconclusive(
        type="ExtendHoldout", extend_holdout=ExtendHoldout()
    )
    """What happens when the evidence decides nothing. Default: ExtendHoldout with 3
    interim analyses."""
