"""The model that is updated: its initial weights, its task and the options of the task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Digest, Fraction, Label, Model, ModelUri, Time, cel
from springtide_api.update.task import (
    CausalLMOptions,
    ClassificationOptions,
    EmbeddingOptions,
    RankingOptions,
    RegressionOptions,
)


class InitialModel(Model):
    """The initial model: any Hugging Face folder with safetensors weights.

    An import Job validates it, computes its digest and makes it generation 0. A model without a
    classification head gets a new, seeded head at import; such a generation 0 is never served.
    """

    uri: ModelUri
    """Folder of the model, such as file:///models/minilm or s3://models/minilm, or a repository of
    the Hugging Face hub at a branch, tag or commit, such as hf://organization/name@main. The import
    resolves it to a commit, which status.artifact.commit of generation 0 has. A token for the hub
    is the key HF_TOKEN of the Secret in data.secretName."""
    digest: Digest | None = None
    """Expected digest of the imported model; the import fails if it differs. Default: any
    digest."""
    trained_through: Time | None = None
    """End of the data that the model was trained on. Rows from this time on are new. Default: all
    rows are new."""


@cel(
    "self.task != 'Classification' || has(self.labels)",
    "task Classification needs labels: the label names, spelled as in the data",
)
@cel(
    "self.task != 'Regression' || !has(self.labels)",
    "task Regression has no labels: the label column holds numbers; remove labels",
)
@cel(
    "self.task == 'Classification' || !has(self.classification)",
    "classification belongs to task Classification; remove it, or change task",
)
@cel(
    "!has(self.classification) || !self.classification.multiLabel || !has(self.labels)"
    " || !self.labels.exists(l, l.contains(self.classification.separator))",
    "no label may contain classification.separator; choose another separator",
)
@cel(
    "self.task == 'Regression' || !has(self.regression)",
    "regression belongs to task Regression; remove it, or change task",
)
@cel(
    "(self.task == 'Ranking') == has(self.ranking)",
    "set ranking if and only if task is Ranking; it has the gain of each label",
)
@cel(
    "self.task != 'Ranking' || !has(self.labels)",
    "task Ranking has ranking.gains in place of labels; remove labels",
)
@cel(
    "self.task == 'Embedding' || !has(self.embedding)",
    "embedding belongs to task Embedding; remove it, or change task",
)
@cel(
    "self.task != 'Embedding' || !has(self.labels)",
    "task Embedding has no labels: the label column has the id of a document; remove labels",
)
@cel(
    "self.task == 'CausalLM' || !has(self.causalLm)",
    "causalLm belongs to task CausalLM; remove it, or change task",
)
@cel(
    "self.task != 'CausalLM' || !has(self.labels)",
    "task CausalLM has no labels: the label column has the response to a prompt; remove labels",
)
@cel(
    "self.task != 'MaskedLM' || !has(self.labels)",
    "task MaskedLM has no labels: it predicts the tokens of the text itself; remove labels",
)
@cel(
    "!has(self.causalLm) || !has(self.causalLm.maxNewTokens)"
    " || self.causalLm.maxNewTokens < self.maxLength",
    "causalLm.maxNewTokens must be less than maxLength, which prompt and response share; lower it,"
    " or raise maxLength",
)
@cel(
    "!has(self.labels) || self.labels.all(a, self.labels.exists_one(b, a == b))",
    "labels must be unique; remove the repeated one",
)
@cel(
    "!has(self.keepLayers) || self.keepLayers.all(a, self.keepLayers.exists_one(b, a == b))",
    "keepLayers must be unique: a layer is kept once; remove the repeated one",
)
@cel(
    "!has(self.keepLayers) || self.task != 'Embedding'",
    "task Embedding has no keepLayers: the vectors of a live index are those of all layers; remove"
    " it",
)
class ModelSpec(Model):
    """The model that is updated."""

    task: Literal[
        "Classification", "Regression", "Ranking", "Embedding", "CausalLM", "MaskedLM"
    ] = "Classification"
    """Task of the model. Immutable. Classification: one of several labels, for example clicks,
    recommendations, promotions, sentiment or intent. Regression: a number, for example a price.
    Ranking: the order of the rows of a group, for example the results of a query. Embedding:
    vectors of queries and documents, for retrieval. CausalLM: the response to a prompt, for example
    of a support dialogue. MaskedLM: hidden tokens of a text, without labels; it adapts an encoder
    to new text, serves nothing, and is the initial model of another update. Default
    Classification."""
    initial: InitialModel
    """The initial model: its folder, and the data that it was trained on. Immutable."""
    labels: Annotated[list[Label] | None, Field(min_length=2, max_length=256)] = None
    """Label names, spelled as in the data; for Classification, which requires them. With two
    labels, the second is the positive one. Append-only: labels can be added at the end, never
    removed or reordered."""
    classification: ClassificationOptions | None = None
    """Options of Classification. Default: a row has exactly one label."""
    regression: RegressionOptions | None = None
    """Options of Regression. Default: mean squared error."""
    ranking: RankingOptions | None = None
    """Options of Ranking; present if and only if task is Ranking."""
    embedding: EmbeddingOptions | None = None
    """Options of Embedding. Default: the mean of the outputs, normalized."""
    causal_lm: CausalLMOptions | None = None
    """Options of CausalLM. Default: a response has at most half of maxLength."""
    keep_layers: Annotated[
        list[Annotated[int, Field(ge=0, le=199)]] | None, Field(min_length=1, max_length=100)
    ] = None
    """Layers of the initial model to keep, counted from 0 at the input, such as [0, 2, 4]. The
    import removes the others, as DistilBERT was initialized (arXiv:1910.01108). Generation 0 is
    then never served: the first training trains what is left. Immutable. Default: all layers."""
    max_length: Annotated[int, Field(ge=8, le=8192)] = 128
    """Maximum number of tokens of an example; longer examples are truncated. For CausalLM, of
    prompt and response together: the beginning of a long prompt is cut. Default 128."""


Sparsity = Annotated[str, Field(max_length=6, pattern=r"^0[.][0-9]+$")]
"""A fraction of at most 4 digits: the result of a training, which repeats it, must fit a
termination message."""


def form_in_words(quantization: str | None, sparsity: str | None) -> str:
    """Return an optimized form in a few words, such as "Int8Dynamic, sparsity 0.5"."""
    words = [quantization or "", f"sparsity {sparsity}" if sparsity else ""]
    return ", ".join(filter(None, words))


@cel(
    "double(self.sparsity) >= 0.01 && double(self.sparsity) <= 0.95",
    "sparsity must be at least 0.01 and at most 0.95",
    "sparsity",
)
class Pruning(Model):
    """Set the smallest weights of the linear layers to zero, in what is served."""

    sparsity: Sparsity
    """Fraction of the weights of each linear layer below the head that are set to zero: those with
    the smallest absolute values. From 0.01 to 0.95. The model is not trained again afterwards, so
    the loss grows fast from 0.5 on; the gate sees it."""


@cel(
    "double(self.sparsity) >= 0.01 && double(self.sparsity) <= 0.95",
    "sparsity must be at least 0.01 and at most 0.95",
    "sparsity",
)
@cel(
    "double(self.pruneFrom) < double(self.pruneUntil)",
    "pruneFrom must be less than pruneUntil; weights are set to zero between them",
    "pruneFrom",
)
class GradualPruning(Model):
    """Set the smallest weights of the linear layers to zero while a candidate is trained.

    More and more weights are zero, by a cubic schedule (Zhu and Gupta 2017, arXiv:1710.01878): most
    of them early, when many are left that make up for them. The others are trained to the end. A
    weight that is zero stays zero, also from generation to generation while the field is set.
    """

    sparsity: Sparsity
    """Fraction of the weights of each linear layer below the head that are zero at the end: those
    with the smallest absolute values. From 0.01 to 0.95. A parent with more zeros keeps them."""
    prune_from: Fraction = "0.1"
    """Fraction of the steps after which the first weights are set to zero. Default 0.1."""
    prune_until: Fraction = "0.7"
    """Fraction of the steps after which no further weights are. Default 0.7."""


@cel(
    "has(self.quantization) || has(self.pruning)",
    "set quantization, pruning or both, or leave optimise out",
)
class Optimise(Model):
    """An optimized form of the model, which is written beside the weights of each generation."""

    quantization: Literal["Int8Dynamic"] | None = None
    """Int8Dynamic: the weights of linear layers and embeddings are 8-bit integers, and activations
    are quantized when a row is scored. ONNX Runtime scores the rows on the CPU, also in a pod with
    a GPU. A model that cannot be converted is refused when it is imported. Default: the weights
    stay in FP32."""
    pruning: Pruning | None = None
    """Set the smallest weights to zero, before quantization. PyTorch and ONNX Runtime need the same
    time and memory for zeros; it makes the files smaller only where they are compressed, and rows
    faster only on a server with kernels for sparse weights. Default: no weight is set to zero."""

    def describe(self) -> str:
        """Return the form in a few words, such as "Int8Dynamic, sparsity 0.5"."""
        return form_in_words(self.quantization, self.pruning.sparsity if self.pruning else None)


class WarmUp(Model):
    """Queries that a server answers to itself before a pod of it gets requests."""

    queries: Annotated[int, Field(ge=0, le=256)] = 32
    """How many queries an evaluation writes beside the model, from rows of its holdout: texts or
    features, without labels. 0: none, and a new evaluation deletes those of an earlier one.
    Default 32."""


class Serving(Model):
    """The form in which generations are evaluated and served, and how its servers warm up."""

    optimise: Optimise | None = None
    """The optimized form. Evaluation and gate score candidate and live model in the form in which
    each is served; training continues from the weights as they were trained."""
    warm_up: WarmUp | None = None
    """Queries of real rows, so that the first requests of a new pod are not slow. They do not
    count for the verdict. Default: 32 queries."""
