"""Options of the tasks. Each block belongs to one task and is set only if that task is chosen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Decimal, Model, cel


@cel(
    "double(self.gamma) > 0.0 && double(self.gamma) <= 10.0",
    "gamma must be greater than 0 and at most 10; 2 is usual, and 0 would be CrossEntropy",
    "gamma",
)
class Focal(Model):
    """The focal loss (arXiv:1708.02002): the cross entropy, times (1 - probability) to the gamma.

    The probability is that of the right label. Rows that the model already predicts well count
    less, so many easy rows do not outweigh a few hard ones.
    """

    gamma: Decimal = "2"
    """How much less they count: with 2 a row of probability 0.9 counts a hundredth of what it
    counts in the cross entropy. Default "2"."""


@cel(
    "(self.type == 'Focal') == has(self.focal)",
    "set focal (it may be {}) if and only if type is Focal",
)
class ClassificationLoss(Model):
    """The loss of Classification. Metrics do not depend on it."""

    type: Literal["CrossEntropy", "Focal"] = "CrossEntropy"
    """CrossEntropy: the negative log likelihood of the labels; its probabilities are calibrated.
    Focal: easy rows count less; its probabilities are less certain. Default CrossEntropy."""
    focal: Focal | None = None
    """Settings of Focal; present if and only if type is Focal."""


@cel(
    "!has(self.classWeights) || !self.multiLabel",
    "classWeights needs rows of exactly one label; remove it, or set multiLabel to false",
)
class ClassificationOptions(Model):
    """Options of Classification."""

    multi_label: bool = False
    """A row has any number of the labels, each with its own probability. The label column has a
    list of labels (in Parquet and JSONL), its JSON text, or labels joined by separator; an empty
    list or text is none of them. Immutable. Default false: exactly one label."""
    separator: Annotated[str, Field(min_length=1, max_length=8)] = "|"
    """Text between two labels of a row, with multiLabel. Default "|"."""
    loss: ClassificationLoss | None = None
    """Loss of the training; with multiLabel, of each label by itself. Default: CrossEntropy."""
    class_weights: Literal["Balanced"] | None = None
    """Balanced: in the loss all labels of the training rows count the same, however many rows they
    have: a row counts by rows / (labels * rows of its label), where rows are sums of weights, times
    its weight. Metrics and gate do not use them. Default: a row counts by its weight."""


@cel(
    "double(self.delta) > 0.0",
    "delta must be greater than 0; 1 is usual",
    "delta",
)
class Huber(Model):
    """The Huber loss: squared for small errors, absolute for large ones (Huber 1964)."""

    delta: Decimal = "1"
    """Error from which the loss is absolute, in units of the spread. Default "1"."""


@cel(
    "(self.type == 'Huber') == has(self.huber)",
    "set huber (it may be {}) if and only if type is Huber",
)
class RegressionLoss(Model):
    """The loss of Regression."""

    type: Literal["MSE", "Huber"] = "MSE"
    """MSE: the squared error, for the mean. Huber: less affected by outliers. Default MSE."""
    huber: Huber | None = None
    """Settings of Huber; present if and only if type is Huber."""


@cel(
    "has(self.location) == has(self.spread)",
    "set location and spread, or neither",
)
@cel(
    "!has(self.spread) || double(self.spread) > 0.0",
    "spread must be greater than 0; the standard deviation of the labels is usual",
)
class RegressionOptions(Model):
    """Options of Regression.

    The model learns (label - location) / spread. Both are fixed once: they are part of the first
    trained generation, and every later generation and the server use them.
    """

    loss: RegressionLoss = RegressionLoss()
    """Loss of the scaled labels. Default: MSE."""
    location: Decimal | None = None
    """Location, in the unit of the labels. Immutable. Default: the mean label of the first training
    rows; 0 for an initial model with a trained head, which is taken as it is."""
    spread: Decimal | None = None
    """Spread, in the unit of the labels. Immutable. Default: the standard deviation of the labels
    of the first training rows; 1 for an initial model with a trained head."""


@cel(
    "self.gains.all(l, double(self.gains[l]) >= 0.0)",
    "gains must not be negative; 0 is the gain of an irrelevant row",
)
@cel(
    "self.gains.exists(l, double(self.gains[l]) == 0.0)"
    " && self.gains.exists(l, double(self.gains[l]) > 0.0)",
    "gains needs a label with gain 0 (irrelevant) and one with a higher gain (relevant), such as"
    " {irrelevant: '0', exact: '3'}",
)
class RankingOptions(Model):
    """What relevance is, and how its order is learnt."""

    gains: Annotated[dict[str, Decimal], Field(max_length=64)]
    """Relevance of each label, spelled as in the data, such as {irrelevant: "0", partial: "1",
    exact: "3"}; rows with a gain greater than 0 are relevant. NDCG uses these numbers as they are
    (linear gain). Labels can be added, never removed."""
    loss: Literal["Pointwise", "Pairwise", "Listwise"] = "Listwise"
    """Loss of a group. Listwise: cross-entropy between the gains and the softmax of the scores of
    the group (ListNet). Pairwise: logistic loss of each pair of rows with different gains
    (RankNet). Pointwise: binary cross-entropy of each row, with its gain divided by the highest
    gain. Fine-tuned rankers are usually best with Listwise. Default Listwise."""
    max_group_rows: Annotated[int, Field(ge=2, le=4096)] = 128
    """Maximum number of rows of a group that is trained on; larger groups are refused, because a
    group is never split over forward passes. A forward pass has whole groups of at most this many
    rows together, so lower it to use less memory. Default 128."""


class Vectors(Model):
    """How a text becomes a vector. A live index has vectors of this kind, so they are immutable."""

    pooling: Literal["Mean", "First"] = "Mean"
    """Mean: the mean of the outputs of all tokens. First: the output of the first token, [CLS].
    Default Mean."""
    normalized: bool = True
    """Divide a vector by its length, so that an inner product is a cosine. Default true."""
    query_prefix: Annotated[str, Field(max_length=128)] = ""
    """Text before each query, such as "query: " for E5. Default: none."""
    document_prefix: Annotated[str, Field(max_length=128)] = ""
    """Text before each document, such as "passage: ". Default: none."""
    dimensions: Annotated[int | None, Field(ge=1, le=65536)] = None
    """Expected length of the vectors; the import fails if the model has another. Default: any."""


@cel(
    "!has(self.temperature)"
    " || (double(self.temperature) > 0.0 && double(self.temperature) <= 100.0)",
    "temperature must be greater than 0 and at most 100; 0.05 is usual for normalized vectors",
    "temperature",
)
class EmbeddingOptions(Model):
    """Options of Embedding: how vectors are made, and how they are learnt.

    The loss is the cross-entropy of the document of a row among all documents of the rows of its
    step. A document that any training row has for the same query is no negative of it.
    """

    vectors: Vectors = Vectors()
    """How a text becomes a vector. Immutable. Default: the mean of the outputs, normalized."""
    train_tower: Literal["Query", "Both"] = "Query"
    """Query: train the model of the queries. That of the documents stays as it is, so the vectors
    of a live index stay valid. Both: train one model for queries and documents. Each generation
    then waits for spec.approval until an index has its vectors. Default Query."""
    temperature: Decimal | None = None
    """Inner products are divided by it. Default "0.05", and "1" if not normalized."""
    log_q: bool = True
    """Subtract the logarithm of the chance that a document is in a step, so that frequent documents
    are not learnt to be irrelevant (logQ correction). Default true."""

    @property
    def scale(self) -> float:
        """What inner products are divided by."""
        return float(self.temperature or ("0.05" if self.vectors.normalized else "1"))


class CausalLMOptions(Model):
    """Options of CausalLM: how responses are generated. The loss has none."""

    max_new_tokens: Annotated[int | None, Field(ge=1, le=4096)] = None
    """Maximum tokens of a generated response, less than maxLength: the prompt has the rest, and of
    a longer prompt the last tokens are read. Default: half of maxLength."""

    def new_tokens(self, max_length: int) -> int:
        """Return the maximum tokens of a generated response, at least 1."""
        return min(self.max_new_tokens or max_length // 2, max_length - 1)


EARLY_STOPPING_METRIC = {
    "CausalLM": "perplexity",
    "Classification": "log_loss",
    "Embedding": "mrr",
    "MaskedLM": "perplexity",
    "Ranking": "ndcg@10",
    "Regression": "rmse",
}
"""The validation metric of each task where the spec names none."""
