"""Which weights are trained: all of them, or a few new ones beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from springtide_api.schema import Decimal, Fraction, Model, cel

LEARNING_RATES = {
    "Full": "2e-5",
    "LoRA": "5e-4",
    "AdaLoRA": "1e-3",
    "Adapter": "5e-4",
    "PromptTuning": "2e-2",
    "PrefixTuning": "2e-2",
}
"""Default learning rate of each method."""

ModuleName = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$")
]


@cel(
    "double(self.dropout) < 1.0",
    "dropout must be less than 1; 1 would drop everything",
    "dropout",
)
@cel(
    "!has(self.quantization) || !self.dora",
    "quantization excludes dora, which trains the norms of the weights that quantization rounds;"
    " remove one of them",
)
@cel(
    "!has(self.rebaseEvery) || self.continuation == 'Continue'",
    "rebaseEvery counts the generations of one adapter, and with continuation Fresh each generation"
    " has its own; set continuation to Continue, or remove rebaseEvery",
)
@cel(
    "!has(self.rebaseLearningRate) || has(self.rebaseEvery)",
    "rebaseLearningRate is that of the Full update of rebaseEvery; set rebaseEvery, or remove"
    " rebaseLearningRate",
)
@cel(
    "!has(self.rebaseLearningRate)"
    " || (double(self.rebaseLearningRate) > 0.0 && double(self.rebaseLearningRate) <= 1.0)",
    "rebaseLearningRate must be greater than 0 and at most 1; 2e-5 suits a Full update",
    "rebaseLearningRate",
)
class LoRA(Model):
    """Low-rank adapters (LoRA, arXiv:2106.09685).

    The weights of the encoder stay as they are; beside each target module, a product of two small
    matrices is trained and added to its weights at the end. The head is trained as with Full.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of the adapters: number of rows of the first matrix and of columns of the second.
    Default 8."""
    alpha: Annotated[int, Field(ge=1, le=65536)] = 16
    """An adapter's output is multiplied by alpha / rank. Default 16."""
    dropout: Fraction = "0"
    """Dropout probability of the adapters' inputs during training. Default 0."""
    target_modules: Annotated[list[ModuleName], Field(max_length=64)] = []
    """Names of the linear layers that get adapters, such as query and value, or the end of their
    path, such as attention.output.dense. Default: all linear layers of the encoder (attention, MLP
    and pooler)."""
    rs_lora: bool = False
    """Multiply by alpha / sqrt(rank) instead of alpha / rank, so that a higher rank does not make
    the adapters weaker (rsLoRA, arXiv:2312.03732). Default false."""
    dora: bool = False
    """Train the norm of each row of the target weights too (DoRA, arXiv:2402.09353): closer to
    Full, with slower steps. Default false."""
    quantization: Literal["NF4"] | None = None
    """NF4: during the training the frozen linear layers of the encoder have 4 bits a weight instead
    of 32 in the memory of the GPU (QLoRA, arXiv:2305.14314); the memory of the pod still holds them
    as they are, and it is these that the adapters are merged into. Slower; needs an image with
    bitsandbytes. Default: none."""
    continuation: Literal["Continue", "Fresh"] = "Fresh"
    """Fresh: each generation starts new adapters on the live weights. Continue: a generation leaves
    its adapter beside the merged weights, and the next one goes on training it; if the live
    generation left none, or one with other options, a new one is started. Default Fresh."""
    rebase_every: Annotated[int | None, Field(ge=2, le=100)] = None
    """With Continue: after so many generations of one adapter, the next is trained with method Full
    on the merged weights, and the one after it starts a new adapter. Default: never."""
    rebase_learning_rate: Decimal | None = None
    """Peak learning rate of that Full update; hyperparameters.learningRate is that of the adapters.
    Default 2e-5."""


@cel(
    "double(self.dropout) < 1.0",
    "dropout must be less than 1; 1 would drop everything",
    "dropout",
)
@cel(
    "self.rank < self.initialRank",
    "initialRank must be larger than rank: the training removes what is above it; raise it, or use"
    " method LoRA",
)
@cel(
    "double(self.allocateFrom) < double(self.allocateUntil)",
    "allocateFrom must be less than allocateUntil; ranks are removed between them",
    "allocateFrom",
)
class AdaLoRA(Model):
    """Low-rank adapters that share a budget of ranks (AdaLoRA, arXiv:2303.10512).

    Each adapter starts with initialRank directions. During the training those that matter least for
    the loss are removed, from any adapter, until rank of them are left on average. Each generation
    starts new adapters; at the end they are merged as with LoRA.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Mean rank of the adapters at the end. Default 8."""
    initial_rank: Annotated[int, Field(ge=2, le=1024)] = 12
    """Rank of each adapter at the start. Default 12."""
    alpha: Annotated[int, Field(ge=1, le=65536)] = 24
    """An adapter's output is multiplied by alpha / initialRank. Default 24."""
    dropout: Fraction = "0"
    """Dropout probability of the adapters' inputs during training. Default 0."""
    target_modules: Annotated[list[ModuleName], Field(max_length=64)] = []
    """Names of the linear layers that get adapters, as with LoRA. Default: all of the encoder."""
    allocate_from: Fraction = "0.1"
    """Fraction of the steps after which the first direction is removed. Default 0.1."""
    allocate_until: Fraction = "0.7"
    """Fraction of the steps after which no more is removed. Default 0.7."""
    allocate_every: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Steps between two removals. Default 10."""
    orthogonality: Fraction = "0.5"
    """Weight of the penalty in the loss that keeps the directions of an adapter orthogonal.
    Default 0.5."""


class Adapter(Model):
    """Bottleneck adapters (arXiv:1902.00751): small layers behind linear layers of the encoder.

    They and the head are trained, everything else stays. They cannot be merged: they become a part
    of the model, which later generations go on training, and only the reference server loads it.
    """

    width: Annotated[int, Field(ge=1, le=4096)] = 64
    """Units of an adapter. It cannot change while the live model has adapters. Default 64."""
    target_modules: Annotated[list[ModuleName], Field(max_length=64)] = []
    """Names of the linear layers that an adapter is put behind. Default: the last one of each layer
    of the encoder, as in AdapterFusion (arXiv:2005.00247)."""


class PromptTuning(Model):
    """Vectors that the model reads as further words of each row (arXiv:2104.08691).

    They and the head are trained, everything else stays. They become a part of the model, which
    later generations go on training, and only the reference server loads it. New vectors change the
    scores of the live model before the first step.
    """

    tokens: Annotated[int, Field(ge=1, le=256)] = 20
    """Number of vectors. Each takes a position: model.maxLength and tokens together are at most
    what the model has. It cannot change while the live model has a prompt. Default 20."""


class PrefixTuning(Model):
    """Keys and values that each attention layer reads before those of a row (arXiv:2101.00190).

    They and the head are trained, everything else stays. They become a part of the model, which
    later generations go on training, and only the reference server loads it. New ones change the
    scores of the live model before the first step.
    """

    tokens: Annotated[int, Field(ge=1, le=256)] = 20
    """Number of keys and values of each head. They take no position of a row. It cannot change
    while the live model has prefixes. Default 20."""


@cel(
    "(self.type == 'LoRA') == has(self.lora)",
    "set lora if and only if type is LoRA; {} has the defaults",
)
@cel(
    "(self.type == 'AdaLoRA') == has(self.adaLora)",
    "set adaLora if and only if type is AdaLoRA; {} has the defaults",
)
@cel(
    "(self.type == 'Adapter') == has(self.adapter)",
    "set adapter if and only if type is Adapter; {} has the defaults",
)
@cel(
    "(self.type == 'PromptTuning') == has(self.promptTuning)",
    "set promptTuning if and only if type is PromptTuning; {} has the defaults",
)
@cel(
    "(self.type == 'PrefixTuning') == has(self.prefixTuning)",
    "set prefixTuning if and only if type is PrefixTuning; {} has the defaults",
)
class Method(Model):
    """Which weights are trained."""

    type: Literal["Full", "LoRA", "AdaLoRA", "Adapter", "PromptTuning", "PrefixTuning"] = "Full"
    """Full: train all weights that are not frozen. LoRA: train low-rank adapters and the head, with
    less memory; the model that is served has them merged into its weights. AdaLoRA: LoRA with more
    rank where it matters more for the loss. Adapter: small layers in the encoder, which stay in it,
    and the head. PromptTuning: vectors that are read with the words of a row, and the head.
    PrefixTuning: keys and values of each attention layer, and the head. Default Full."""
    lora: LoRA | None = None
    """Options of type LoRA."""
    ada_lora: AdaLoRA | None = None
    """Options of type AdaLoRA."""
    adapter: Adapter | None = None
    """Options of type Adapter."""
    prompt_tuning: PromptTuning | None = None
    """Options of type PromptTuning."""
    prefix_tuning: PrefixTuning | None = None
    """Options of type PrefixTuning."""

    def decisive(self) -> dict[str, Any]:
        """Return what determines the weights of a run, as JSON.

        When the next Full update is due is not part of it, nor is the default of continuation.
        """
        made = self.plain()
        if self.lora is not None:
            undecided = {"rebaseEvery", "rebaseLearningRate"}
            undecided |= {"continuation"} if self.lora.continuation == "Fresh" else set()
            made["lora"] = {name: x for name, x in made["lora"].items() if name not in undecided}
        return made
