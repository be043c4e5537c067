"""Rows scored per CPU-second as in the evaluation, against a pipeline of transformers.

    PYTHONPATH=tests python tests/bench/scoring.py [--rows 512] [--rounds 2]

All sides score the same rows in turns; compare ratios only. The scores must be equal.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from bench.relevance import LABELS, MAX_LENGTH, texts, weights
from trainer.training.conftest import imported
from transformers import pipeline

from springtide_trainer.artifact.models import load
from springtide_trainer.evaluation.datasets import EvaluationDataset
from springtide_trainer.evaluation.scoring import score_all
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from collections.abc import Callable

TOLERANCE = 1e-4


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--rows", type=int, default=512)
    asked.add_argument("--rounds", type=int, default=2)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        artifact = imported(weights(), home)
        parent = local_path(artifact.uri)
        scorer = load(parent, artifact.digest, "cpu")
        preprocess = scorer.preprocess.model_copy(update={"max_length": MAX_LENGTH})
        scorer = replace(scorer, preprocess=preprocess)
        some, _ = texts(scorer.tokenizer, given.rows, 1)
        dataset = EvaluationDataset("holdout", "Holdout", "sha256:1", pa.table({"text": some}))
        reader = pipeline(
            "text-classification", model=str(parent), tokenizer=str(parent), device="cpu"
        )

        def evaluation() -> np.ndarray[Any, Any]:
            return score_all([dataset], [[scorer]], scratch=home.path)[0][0].predictions

        def piped(size: int) -> Callable[[], np.ndarray[Any, Any]]:
            def score() -> np.ndarray[Any, Any]:
                options = {"top_k": None, "truncation": True, "max_length": MAX_LENGTH}
                found = reader(some, batch_size=size, **options)
                named = [{one["label"]: one["score"] for one in row} for row in found]
                return np.array([[row[label] for label in LABELS] for row in named])

            return score

        sides = {
            "this evaluation": evaluation,
            "pipeline, one row at a time": piped(1),
            "pipeline, batches of 32, unsorted": piped(32),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(given.rounds):
            expected = None
            for name, score in sides.items():
                began = time.process_time()
                scores = score()
                rates[name].append(given.rows / (time.process_time() - began))
                expected = scores if expected is None else expected
                assert np.abs(scores - expected).max() < TOLERANCE, name
        print(f"{torch.get_num_threads()} threads, {given.rows} rows of 44 tokens on average")
        for name, found in rates.items():
            ratio = mean(rates["this evaluation"]) / mean(found)
            print(f"{name:36} {mean(found):8.1f} rows/CPU-s {ratio:6.2f}")


if __name__ == "__main__":
    main()
