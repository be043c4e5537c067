"""Evaluation and gate: on which data a candidate is scored, and which rules it must pass."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Decimal, Fraction, Model, Name, Uri, cel

Metric = Annotated[
    str,
    Field(
        max_length=16,
        pattern=(
            r"^(auc|pr_auc|log_loss|accuracy|macro_f1|micro_f1|ece|(ndcg|mrr|recall)@[1-9][0-9]{0,2}|mrr|map"
            r"|rmse|mae|mape|wape|r2|perplexity|masked_accuracy)$"
        ),
    ),
]
"""A built-in metric. log_loss, ece and errors are better when lower, the others when higher."""


@cel(
    "(self.role == 'Guardrail') == has(self.uri)",
    "set uri if and only if role is Guardrail; the rows of the other roles come from data",
)
class Dataset(Model):
    """A named set of rows on which candidate and live model are scored."""

    name: Name
    """Name of the dataset in rules and reports."""
    role: Literal["Holdout", "Historical", "Guardrail"]
    """Holdout: the rows after the training rows. Historical: the reserved rows of earlier windows.
    Guardrail: a file of your own, with examples that must stay correct."""
    uri: Uri | None = None
    """File of a Guardrail, with the format and columns of data.source; present if and only if role
    is Guardrail."""


@cel(
    "double(self.confidence) >= 0.5 && double(self.confidence) < 1.0",
    "confidence must be at least 0.5 and less than 1; 0.95 is usual",
    "confidence",
)
class Bootstrap(Model):
    """The paired bootstrap over entities (cluster bootstrap)."""

    samples: Annotated[int, Field(ge=200, le=20_000)] = 2000
    """Minimum number of resamples; more are used if the confidence level requires it. Default
    2000."""
    confidence: Fraction = "0.95"
    """One-sided confidence level of each bound. It is corrected for the number of interim analyses.
    Default 0.95."""


class Reference(Model):
    """The generation that maxCumulativeRegression compares with."""

    generation: Annotated[int | None, Field(ge=0, le=2_147_483_647)] = None
    """Number of a promoted generation. Default: the last generation that was significantly better
    than the live model it replaced; if there is none, the oldest that is kept."""


@cel(
    "!has(self.datasets) || self.datasets.all(a, self.datasets.exists_one(b, a.name == b.name))",
    "dataset names must be unique; rename one",
)
@cel(
    "!has(self.datasets) || self.datasets.filter(d, d.role == 'Holdout').size() <= 1",
    "at most one dataset may have role Holdout; there is one holdout in each window",
)
class Evaluation(Model):
    """On which data candidate and live model are scored.

    Both are scored on the same rows in one Job.
    """

    datasets: Annotated[list[Dataset], Field(min_length=1, max_length=8)] = [
        Dataset(name="holdout", role="Holdout")
    ]
    """Datasets. Default: one with name holdout and role Holdout."""
    bootstrap: Bootstrap = Bootstrap()
    """How confidence bounds are computed. Default: 2000 resamples, one-sided 95 %."""
    reference: Reference | None = None
    """The generation that maxCumulativeRegression compares with. It is scored on the same rows in
    the same Job. Default: the last generation that was significantly better than the live model it
    replaced."""


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
    """A margin relative to the value of the live model."""

    absolute: Decimal | None = None
    """In units of the metric, such as "0.005". Set either absolute or relative."""
    relative: Decimal | None = None
    """As a fraction of the live model's value, such as "0.01". Set either absolute or relative."""


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
    "set minImprovement or maxRegression, not both: an improvement excludes a regression; remove"
    " one",
)
class Rule(Model):
    """One requirement, decided by confidence bounds, not by point estimates."""

    name: Name
    """Name of the rule in status, events and report."""
    metric: Metric
    """Metric. Classification: auc, pr_auc, log_loss, accuracy, macro_f1, ece or ndcg@<k>; with
    multiLabel: auc, pr_auc, log_loss, macro_f1 or micro_f1, averaged over the labels. Ranking:
    ndcg@<k>, mrr, mrr@<k> or map. Embedding: recall@<k>, mrr or mrr@<k>, among the documents of the
    dataset. Regression: rmse, mae, mape, wape or r2. mape is the mean of |error| / |label| over the
    rows whose label is not 0; wape is the sum of |error| divided by the sum of |label|. CausalLM:
    perplexity, the exponential of the mean negative log likelihood of the tokens of the responses.
    MaskedLM: perplexity of the hidden tokens, and masked_accuracy, the share of them whose most
    probable token is the right one."""
    dataset: Name = "holdout"
    """Name of one of evaluation.datasets. Default holdout."""
    min: Decimal | None = None
    """Minimum value of the candidate, such as "0.6". Default: no minimum."""
    max: Decimal | None = None
    """Maximum value of the candidate, such as "0.7". Default: no maximum."""
    min_improvement: Margin | None = None
    """The candidate must be better than the live model by more than this margin (superiority). An
    absolute margin of "0" requires any improvement."""
    max_regression: Margin | None = None
    """The candidate may be worse than the live model by less than this margin (non-inferiority)."""
    max_cumulative_regression: Margin | None = None
    """The candidate may be worse than the generation of evaluation.reference by less than this
    margin. It prevents small regressions from adding up over generations."""
    min_entities: Annotated[int, Field(ge=10, le=1_000_000_000)] = 30
    """Minimum number of contributing entities; with fewer, the rule is inconclusive. To an AUC,
    entities with rows of the rarer class contribute; to a difference, entities on which the models
    differ. At least 10. Default 30."""
    min_positives: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    """Minimum number of rows with the positive label (with more than two labels: the rarest label);
    with fewer, the rule is inconclusive. Default: no minimum."""
    severity: Literal["Required", "Warn"] = "Required"
    """Required: the rule must pass. Warn: the rule is only reported. Default Required."""


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
    """How much the live model's score may drop from one holdout to the next."""

    absolute: Decimal = "0.05"
    """For metrics where higher is better, in units of the metric. Default "0.05"."""
    relative: Decimal = "0.2"
    """For metrics where lower is better (log_loss, ece, rmse, mae, mape, wape, perplexity): the
    increase as a fraction of the last score. Default "0.2"."""


class ExtendHoldout(Model):
    """Wait for another holdout and evaluate the same candidate again."""

    max_interim_analyses: Annotated[int, Field(ge=1, le=3)] = 3
    """Maximum number of evaluations of one candidate. The confidence level of each is corrected for
    this number. Default 3."""


@cel(
    "(self.type == 'ExtendHoldout') == has(self.extendHoldout)",
    "set extendHoldout (it may be {}) if and only if type is ExtendHoldout",
)
class OnInconclusive(Model):
    """What happens with an inconclusive candidate."""

    type: Literal["ExtendHoldout", "Hold", "Reject"]
    """ExtendHoldout: wait for another holdout and evaluate again. Hold: wait for a decision by a
    person. Reject: reject the candidate."""
    extend_holdout: ExtendHoldout | None = None
    """Settings of ExtendHoldout; present if and only if type is ExtendHoldout."""


@cel(
    "self.rules.exists(r, r.severity == 'Required' && r.metric != 'ece'"
    " && (r.metric in ['log_loss', 'rmse', 'mae', 'mape', 'wape', 'perplexity']"
    " ? has(r.max) : has(r.min)))",
    "rules needs a Required rule with min (log_loss and errors: max; ece does not count, because a"
    " constant prediction is perfectly calibrated): a comparison alone passes two models that are"
    " equally bad; add one such as {name: floor, metric: auc, min: '0.6'}",
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
    """The rules that a candidate must pass before it is rolled out.

    Accepted: all Required rules pass. Rejected: at least one Required rule fails. Otherwise the
    candidate is Inconclusive.
    """

    rules: Annotated[list[Rule], Field(min_length=1, max_length=16)]
    """The rules, each decided by a one-sided confidence bound. At least one Required rule must have
    min (log_loss and errors: max) on a dataset whose role is not Historical. On the holdout, that
    bound must be stricter than the score of a trivial baseline (random order, majority label,
    median)."""
    max_holdout_drop: HoldoutDrop = HoldoutDrop()
    """The holdout is suspect if the live model scores worse on it than on the last holdout by more
    than this and by more than three standard errors, and the candidate is not better either.
    Default: 0.05; for metrics where lower is better 20 %."""
    on_inconclusive: OnInconclusive = OnInconclusive(
        type="ExtendHoldout", extend_holdout=ExtendHoldout()
    )
    """What happens with an inconclusive candidate. Default: ExtendHoldout with 3 interim
    analyses."""


class UpdateGate(Gate):
    """The rules that a candidate must pass before it is rolled out, and who approves it then.

    Accepted: all Required rules pass. Rejected: at least one Required rule fails. Otherwise the
    candidate is Inconclusive.
    """

    approval: Literal["Auto", "Manual"] = "Auto"
    """Auto: an accepted generation is rolled out at once. Manual: it waits until spec.approval of
    its ModelGeneration is set, by whoever has the verb approve on modelgenerations; no other run
    starts meanwhile. A change applies to a generation that waits, too. With
    model.embedding.trainTower Both each generation waits. Default Auto."""

    def without_approval(self) -> Gate:
        """Return the part that a recipe repeats: approval is no part of the evidence."""
        return Gate.model_construct(**{name: getattr(self, name) for name in Gate.model_fields})
