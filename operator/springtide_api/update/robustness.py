"""What helps with noisy rows, with chance of the last steps, and with few labels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from springtide_api.schema import Decimal, Fraction, Model, cel


@cel(
    "has(self.ema) != has(self.lastK)",
    "averaging needs either ema or lastK; set one, such as ema: '0.999'",
)
@cel(
    "!has(self.ema) || (double(self.ema) > 0.0 && double(self.ema) < 1.0)",
    "ema must be greater than 0 and less than 1; 0.999 is usual",
    "ema",
)
class Averaging(Model):
    """Averages the trained weights over the steps.

    The average is validated, evaluated and served, in place of the weights of the last step. It
    needs a second copy of the trained weights in memory and in each checkpoint. With adapters,
    these and the head are averaged.
    """

    ema: Fraction | None = None
    """Exponential moving average (Polyak and Juditsky 1992): after each step, ema times the average
    plus (1 - ema) times the weights. In step t, ema is at most (1 + t) / (10 + t), so that short
    runs do not average the weights that they began with. A usual value is "0.999"."""
    last_k: Annotated[int | None, Field(ge=2, le=1_000_000)] = None
    """Mean of the weights after each of the last lastK steps (arXiv:1610.03774); of a run with
    fewer steps, after each step. Excludes earlyStopping."""


@cel(
    "double(self.epsilon) > 0.0",
    "epsilon must be greater than 0; 1 is usual, and 0 would disturb nothing",
    "epsilon",
)
class Adversarial(Model):
    """Adversarial training by the fast gradient method (Miyato et al. 2017, arXiv:1605.07725).

    Each row is also learnt with its word embeddings moved by a small distance in the direction in
    which its loss grows. A pass takes more than twice as long and twice the memory. On a GPU, steps
    are not recorded as CUDA graphs.
    """

    epsilon: Decimal = "1"
    """Length of the disturbance: the L2 norm over the word embeddings of all tokens of a row. The
    embeddings of a row of n tokens have about the norm of one token times sqrt(n). Default "1"."""


@cel(
    "double(self.tokenDropout) > 0.0 || double(self.wordSwap) > 0.0",
    "augmentation needs tokenDropout or wordSwap greater than 0; set one, or remove augmentation",
)
@cel(
    "double(self.tokenDropout) <= 0.5 && double(self.wordSwap) <= 0.5",
    "tokenDropout and wordSwap must be at most 0.5; 0.1 is usual",
    "tokenDropout",
    "wordSwap",
)
class Augmentation(Model):
    """Changes training rows, each epoch in another way: a function of seed, epoch and row.

    Rows of validation and evaluation stay as they are. Special tokens are neither hidden nor
    swapped.
    """

    token_dropout: Fraction = "0"
    """Chance of a token to be hidden from the model, by its attention mask; never all tokens of a
    row. At most 0.5. Default 0."""
    word_swap: Fraction = "0"
    """Swaps of two random words of a text, for each of its words (EDA, arXiv:1901.11196). At most
    0.5. Default 0."""


@cel(
    "has(self.averaging) || has(self.adversarial) || has(self.augmentation)",
    "robustness needs adversarial, augmentation or averaging; set one, or remove robustness",
)
class Robustness(Model):
    """What makes a training robust."""

    adversarial: Adversarial | None = None
    """Rows that are also learnt with disturbed word embeddings. Default: none."""
    augmentation: Augmentation | None = None
    """Hidden tokens and swapped words of training rows. Default: rows as they are."""
    averaging: Averaging | None = None
    """Average of the weights over the steps. Default: the weights of the last step or, with
    earlyStopping, of the best one."""


@cel(
    "double(self.threshold) > 0.0",
    "threshold must be greater than 0; 0.95 is usual, and with 0 every row would be labelled",
    "threshold",
)
@cel(
    "double(self.weight) > 0.0",
    "weight must be greater than 0; with 0 no labelled row would count",
    "weight",
)
class PseudoLabels(Model):
    """Rows without a label that the parent labels for the training (Lee 2013).

    A row whose label is empty or null is used if the probability of the label that the parent finds
    most probable is at least threshold; others are left out. Only training rows: a row without a
    label is never in a holdout, in the validation split, in the reserved rows or in the replay
    buffer. The labels are made again by each generation, and none is kept. If the parent's head is
    untrained, no row is labelled.
    """

    threshold: Fraction = "0.95"
    """Probability from which the parent's label is used. Default "0.95"."""
    weight: Fraction = "0.5"
    """What such a row counts in the loss, of the weight that it has: greater than 0, at most 1.
    Default "0.5"."""


@cel(
    "has(self.pseudoLabels)",
    "unlabelled needs pseudoLabels, {} for its defaults; set it, or remove unlabelled",
)
class Unlabelled(Model):
    """What becomes of training rows without a label. Without this block, they are refused."""

    pseudo_labels: PseudoLabels | None = None
    """Labels that the parent gives to rows that it is sure of."""
