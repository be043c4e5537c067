"""LoRA: this trainer, and peft with Hugging Face's Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from bench.training.full import DEFAULTS, STAGE
from bench.training.rounds import Benchmark, Comparison, Side
from bench.training.sides import AUC, BATCH, TRAINING_SIZES, hugging_face, model, springtide
from peft import LoraConfig, get_peft_model

if TYPE_CHECKING:
    from bench.training.rounds import Clock, Round

RANK, ALPHA, RATE = 8, 16, 5e-4
ADAPTERS = (
    f"Adapters of rank {RANK}, alpha {ALPHA}, for all linear layers of the encoder; the head is "
    "trained too."
)


def ours(shared: Round, clock: Clock) -> tuple[int, Any]:
    return shared.sizes.trained, springtide(
        shared,
        clock,
        job="lora",
        method={"type": "LoRA", "lora": {"rank": RANK, "alpha": ALPHA}},
        hyperparameters={"batchSize": BATCH, "learningRate": str(RATE), "seed": shared.number},
    )


def defaults(shared: Round, clock: Clock) -> tuple[int, Any]:
    torch.manual_seed(shared.number)
    config = LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
    wrapped: Any = get_peft_model(model(shared), config)
    hugging_face(shared, clock, wrapped, rate=RATE)
    return shared.sizes.trained, wrapped.merge_and_unload()


LORA = Benchmark(
    "lora",
    "LoRA on MiniLM-L6, one epoch",
    [
        Side("Springtide", f"{STAGE} {ADAPTERS} Merging them counts.", ours),
        Side(
            "peft and Hugging Face Trainer",
            f"{DEFAULTS} {ADAPTERS} Wrapping and merging by peft do not count.",
            defaults,
        ),
    ],
    [Comparison("LoRA", "Springtide", "peft and Hugging Face Trainer", least=2.0)],
    AUC,
    TRAINING_SIZES,
)
