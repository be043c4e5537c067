"""Scores datasets with all models, each in the form in which it is served, and reports progress.

Models with equal tokenizers and preprocessing share the tokens of a dataset.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.artifact.models import predict
from springtide_trainer.artifact.token_cache import Key, cached
from springtide_trainer.artifact.tokens import CHUNK, collect, encode
from springtide_trainer.data.snapshots.frozen_rows import inputs
from springtide_trainer.evaluation import predicted_tokens
from springtide_trainer.evaluation.comparison import Scores
from springtide_trainer.evaluation.search import Search
from springtide_trainer.progress import Progress, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.artifact.preprocess import Pair
    from springtide_trainer.artifact.tokens import Tokens
    from springtide_trainer.evaluation.datasets import EvaluationDataset

BATCH = {"cpu": 32, "cuda": 128}


class RowsScored(Progress):
    """Progress in rows, without a loss."""

    def status(self, step: int, loss: float, now: float) -> dict[str, Any]:
        """Return the status after a number of rows."""
        status = super().status(step, loss, now)
        return status | {"metrics": [{"name": "rows_scored", "value": str(step)}]}


def score_all(
    datasets: Sequence[EvaluationDataset], models: Sequence[Sequence[Scorer]], *, scratch: Path
) -> list[list[Scores]]:
    """Score every dataset with its models.

    Args:
        datasets: The rows.
        models: The models of each dataset.
        scratch: A folder of this pod on the file system of the frozen rows.

    Returns:
        The scores of each model for each dataset, in the given order; of a bi-encoder, the rank at
        which each query finds its document.
    """
    pairs = list(zip(datasets, models, strict=True))
    total = sum(len(by) * len(each.table) for each, by in pairs if each.table is not None)
    progress = RowsScored(Reporter.of(os.environ), first=0, total=max(total, 1))
    done, found = 0, []
    for dataset, by in pairs:
        tokens: dict[Key, Tokens] = {}
        search = Search(dataset)
        row = []
        for model in by:
            key = Key.of(f"{dataset.digest}/{dataset.role}", model.preprocess, model.folder)
            if key not in tokens:
                tokens[key] = _tokens(dataset, model, key, scratch)
            scores = _score(tokens[key], model, _reporting(progress, done))
            if model.documents is not None:
                scores = search.ranks(model, scores, BATCH.get(model.model.device.type, 32))
            predicts = model.preprocess.predicts_tokens
            labels = predicted_tokens.labels(tokens[key]) if predicts else None
            row.append(Scores(model.task, scores, labels))
            done += len(scores)
        found.append(row)
    return found


def _reporting(progress: Progress, before: int) -> Callable[[int], None]:
    return lambda rows: progress.observe(before + rows, float("nan"))


def _tokens(dataset: EvaluationDataset, model: Scorer, key: Key, scratch: Path) -> Tokens:
    """Tokenize the rows of a dataset; those of a frozen holdout once for all evaluations."""
    table = dataset.table

    def chunks() -> Iterator[list[Pair]]:
        for start in range(0, len(table) if table is not None else 0, CHUNK):
            assert table is not None
            rows = table.slice(start, CHUNK)
            labels = rows["label"].to_pylist() if model.preprocess.reads_labels else None
            yield model.preprocess.render(inputs(rows), labels)

    if dataset.folder is None:
        return collect(model.tokenizer, encode(model.tokenizer, chunks(), key.max_length))
    return cached(model.tokenizer, chunks, key=key, rows=dataset.folder, scratch=scratch)


def _score(tokens: Tokens, model: Scorer, observe: Callable[[int], None]) -> Any:
    """Score all rows: float32 [rows, outputs]."""
    size = BATCH.get(model.model.device.type, 32)
    rows = np.arange(len(tokens.lengths))
    return predict(model.task, model.model, tokens, rows=rows, batch_size=size, observe=observe)
