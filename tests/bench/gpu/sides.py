"""The sides of the benchmark on a GPU: this trainer, and Hugging Face's Trainer, tuned or not."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

import transformers
from bench.relevance import MAX_LENGTH
from bench.training.rounds import Side
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from springtide_api.contract import RunFile
from springtide_trainer.progress import shown_by
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from bench.gpu.cases import GpuClock, GpuRound

    from springtide_trainer.progress import Step

NAMES = {field.name for field in fields(transformers.TrainingArguments)}
GROUPED: dict[str, Any] = (
    {"train_sampling_strategy": "group_by_length"}
    if "train_sampling_strategy" in NAMES
    else {"group_by_length": True}
)
"""Its name differs between versions of transformers."""
TUNED: dict[str, Any] = {
    "bf16": True,
    "optim": "adamw_torch_fused",
    "dataloader_num_workers": 4,
    "dataloader_persistent_workers": True,
    "logging_strategy": "no",
    **GROUPED,
}
WARM_UP = 0.1
"""Share of the steps, as by default of this trainer."""
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class _Steps(transformers.TrainerCallback):
    """Notes the end of each step of Hugging Face's Trainer."""

    def __init__(self, clock: GpuClock) -> None:
        self._clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._clock.step(state.global_step, state.max_steps)


def springtide(shared: GpuRound, clock: GpuClock) -> Any:
    """Run the stage `train` with its defaults; return the model of its artifact."""
    case = shared.case
    options = {"batchSize": case.batch, "learningRate": str(case.rate), "seed": shared.number}
    plain = shared.world.run_file("gpu", hyperparameters=options).plain()
    plain["recipe"]["model"]["maxLength"] = MAX_LENGTH
    plain["train"]["checkpoints"] = str(shared.home.path / "checkpoints" / str(case.batch))

    def show(step: Step) -> None:
        clock.step(step.step, step.total)

    with shown_by(show), clock.running():
        made = shared.world.train(RunFile.model_validate(plain))
    return AutoModelForSequenceClassification.from_pretrained(local_path(made.artifact.uri))


def hugging_face(shared: GpuRound, clock: GpuClock, *, tuned: bool, compiled: bool = False) -> Any:
    """Train with Hugging Face's Trainer, from the folder of the weights to another folder."""
    case, (rows, labels) = shared.case, shared.trained
    with tempfile.TemporaryDirectory() as folder, clock.running():
        tokenizer = AutoTokenizer.from_pretrained(shared.parent)
        model = AutoModelForSequenceClassification.from_pretrained(
            shared.parent, **(NO_DROPOUT if tuned else {})
        )
        if tuned:
            model.get_input_embeddings().requires_grad_(requires_grad=False)
        collate = transformers.DataCollatorWithPadding(
            tokenizer, pad_to_multiple_of=8 if tuned else None
        )
        encoded = tokenizer(rows, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        data = [
            {"input_ids": ids, "labels": label} for ids, label in zip(encoded, labels, strict=True)
        ]
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=case.batch,
            learning_rate=case.rate,
            seed=shared.number,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            torch_compile=compiled,
            warmup_steps=round(WARM_UP * len(rows) / case.batch) if tuned else 0,
            **(TUNED if tuned else {}),
        )
        trainer = transformers.Trainer(model, arguments, collate, train_dataset=data)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(_Steps(clock))
        trainer.train()
        trainer.save_model()
    return model


OURS, DEFAULTS = "Springtide", "Hugging Face Trainer"
TUNED_NAME = f"{DEFAULTS}, tuned"
COMPILED = f"{TUNED_NAME} and compiled"
SIDES: list[Side] = [
    Side(
        OURS,
        "The training stage with its defaults, from frozen rows to the committed artifact: digests "
        "of weights and rows verified, weights loaded, rows tokenized, artifact written, all "
        "counted. BF16, rows of similar length in one batch, word embeddings frozen, no dropout.",
        springtide,
    ),
    Side(
        TUNED_NAME,
        "BF16, fused AdamW, rows of similar length in one batch, widths of multiples of 8, "
        "4 workers that make batches, word embeddings frozen, no dropout, warm-up over 10 % of the "
        "steps, no log. Weights loaded, rows tokenized in one call and weights saved, all counted.",
        partial(hugging_face, tuned=True),
    ),
    Side(
        COMPILED,
        "The same with `torch_compile=True`. The round that does not count compiles; what is "
        "compiled again for new weights counts.",
        partial(hugging_face, tuned=True, compiled=True),
    ),
    Side(
        DEFAULTS,
        "Its defaults: FP32, batches of random rows, dropout 0.1, no warm-up. The same is counted.",
        partial(hugging_face, tuned=False),
    ),
]
