"""Full fine-tuning: this trainer, a tutorial's loop and Hugging Face's Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.training.rounds import Benchmark, Comparison, Side
from bench.training.sides import (
    AUC,
    BATCH,
    TRAINING_SIZES,
    hugging_face,
    model,
    springtide,
    tutorial,
)

if TYPE_CHECKING:
    from bench.training.rounds import Clock, Round

RATE = 1e-4
EPOCHS = 3
"""Of the trainings with frozen layers."""
LOWER = 3
"""Layers to freeze, of 6."""

STAGE = (
    "The training stage, from frozen rows to the committed artifact: digests of weights and rows "
    "verified, weights loaded, rows tokenized, all counted. Its defaults: BF16 where the processor "
    "computes it faster than FP32, rows of similar length in one batch, word embeddings frozen, no "
    "dropout, warm-up over 10 % of the steps."
)
DEFAULTS = (
    "Hugging Face's Trainer with `DataCollatorWithPadding`; rows tokenized in one call, which "
    "counts; weights loaded before the clock starts. All other settings are its defaults: FP32, "
    "batches of random rows, dropout of the model's configuration (0.1), no warm-up."
)


def ours(shared: Round, clock: Clock) -> tuple[int, Any]:
    options = {"batchSize": BATCH, "learningRate": str(RATE), "seed": shared.number}
    return shared.sizes.trained, springtide(shared, clock, job="full", hyperparameters=options)


def loop(shared: Round, clock: Clock) -> tuple[int, Any]:
    return shared.sizes.trained, tutorial(shared, clock, rate=RATE)


def defaults(shared: Round, clock: Clock) -> tuple[int, Any]:
    trained = model(shared)
    hugging_face(shared, clock, trained, rate=RATE)
    return shared.sizes.trained, trained


def ours_frozen(shared: Round, clock: Clock) -> tuple[int, Any]:
    options = {
        "batchSize": BATCH,
        "learningRate": str(RATE),
        "seed": shared.number,
        "epochs": EPOCHS,
        "freeze": {"lowerLayers": LOWER},
    }
    return EPOCHS * shared.sizes.trained, springtide(
        shared, clock, job="frozen", hyperparameters=options
    )


def defaults_epochs(shared: Round, clock: Clock) -> tuple[int, Any]:
    trained = model(shared)
    hugging_face(shared, clock, trained, rate=RATE, epochs=EPOCHS)
    return EPOCHS * shared.sizes.trained, trained


FULL = Benchmark(
    "full",
    "Full fine-tuning of MiniLM-L6, one epoch",
    [
        Side("Springtide", STAGE, ours),
        Side(
            "tutorial's loop",
            "A loop as in tutorials: one call of the tokenizer for each row when its batch is "
            "made, padding to 128 tokens, FP32, AdamW at a constant rate, dropout 0.1. Weights are "
            "loaded before the clock starts.",
            loop,
        ),
        Side("Hugging Face Trainer", DEFAULTS, defaults),
    ],
    [
        Comparison("full fine-tuning", "Springtide", "tutorial's loop", least=4.0, least_bf16=8.0),
        Comparison(
            "full fine-tuning", "Springtide", "Hugging Face Trainer", least=2.8, least_bf16=4.0
        ),
    ],
    AUC,
    TRAINING_SIZES,
)

FROZEN = Benchmark(
    "frozen",
    f"Fine-tuning of MiniLM-L6 with the lower half frozen, {EPOCHS} epochs",
    [
        Side(
            "Springtide",
            f"{STAGE} The lower {LOWER} of 6 layers are frozen; their outputs are computed once "
            "for each row and stored.",
            ours_frozen,
        ),
        Side("Hugging Face Trainer", f"{DEFAULTS} It trains all layers.", defaults_epochs),
    ],
    [
        Comparison(
            f"lower half frozen, {EPOCHS} epochs",
            "Springtide",
            "Hugging Face Trainer",
            least=4.5,
            least_bf16=8.0,
        )
    ],
    AUC,
    TRAINING_SIZES,
)
