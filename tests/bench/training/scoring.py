"""Scoring of a holdout with two models: the evaluation, and pipelines of transformers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from bench.relevance import LABELS, MAX_LENGTH, texts
from bench.training.rounds import Benchmark, Comparison, Quality, Side
from transformers import pipeline

from springtide_trainer.artifact.models import load, load_tokenizer
from springtide_trainer.evaluation.datasets import EvaluationDataset
from springtide_trainer.evaluation.scoring import score_all

if TYPE_CHECKING:
    from bench.training.rounds import Clock, Round

MODELS = 2
"""Candidate and live model."""


def rows(shared: Round) -> list[str]:
    return texts(load_tokenizer(shared.parent), shared.sizes.scored, shared.number)[0]


def evaluation(shared: Round, clock: Clock) -> tuple[int, Any]:
    """Score with all models as the stage `evaluate` does."""
    some = rows(shared)
    scorers = [load(shared.parent, shared.model.digest, "cpu") for _ in range(MODELS)]
    preprocess = scorers[0].preprocess.model_copy(update={"max_length": MAX_LENGTH})
    scorers = [replace(each, preprocess=preprocess) for each in scorers]
    dataset = EvaluationDataset("holdout", "Holdout", "sha256:1", pa.table({"text": some}))
    with clock.running():
        (found,) = score_all([dataset], [scorers], scratch=shared.home.path)
    return MODELS * len(some), [each.predictions for each in found]


def piped(shared: Round, clock: Clock, *, size: int) -> tuple[int, Any]:
    """Score with a pipeline for each model, with batches of this size."""
    some, folder, found = rows(shared), str(shared.parent), []
    options = {"top_k": None, "truncation": True, "max_length": MAX_LENGTH, "batch_size": size}
    for _ in range(MODELS):
        reader = pipeline("text-classification", model=folder, tokenizer=folder, device="cpu")
        with clock.running():
            answers = reader(some, **options)
        named = [{each["label"]: each["score"] for each in row} for row in answers]
        found.append(np.array([[row[label] for label in LABELS] for row in named]))
    return MODELS * len(some), found


def largest_difference(shared: Round, results: dict[str, Any]) -> dict[str, float]:
    """Return the largest difference between a side's scores and those of the evaluation."""
    expected = results["Springtide"]
    return {
        name: max(
            float(np.abs(ours - theirs).max())
            for ours, theirs in zip(expected, scores, strict=True)
        )
        for name, scores in results.items()
    }


PIPELINE = (
    '`pipeline("text-classification")` of transformers with `batch_size={}`, FP32, rows in the '
    "order in which they come, one call for each model."
)
SCORING = Benchmark(
    "scoring",
    f"Scoring of MiniLM-L6, {MODELS} models on the same rows",
    [
        Side(
            "Springtide",
            "The evaluation: rows tokenized once for both models, batches of 32 rows of similar "
            "length, FP32.",
            evaluation,
        ),
        Side("pipeline, batch size 1", PIPELINE.format(1), partial(piped, size=1)),
        Side("pipeline, batch size 32", PIPELINE.format(32), partial(piped, size=32)),
    ],
    [
        Comparison("evaluation", "Springtide", "pipeline, batch size 1", least=1.5),
        Comparison("evaluation", "Springtide", "pipeline, batch size 32", least=2.0),
    ],
    Quality("largest difference of a score", tolerance=1e-4, of=largest_difference),
    ("scored",),
)
