"""Scores datasets with all models, each in the form in which it is served, and reports progress.

Models with equal tokenizers and preprocessing share the tokens of a dataset.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.artifact.models import predict
from springtide_trainer.artifact.token_cache import Key, Place, cached
from springtide_trainer.artifact.tokens import CHUNK, collect, encode
from springtide_trainer.data.snapshots.frozen_rows import inputs
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation import predicted_tokens
from springtide_trainer.evaluation.comparison import Scores
from springtide_trainer.evaluation.predicted_tokens import PredictedTokens
from springtide_trainer.evaluation.search import Search
from springtide_trainer.progress import Progress, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.artifact.preprocess import Pair
    from springtide_trainer.artifact.tokens import Tokens
    from springtide_trainer.evaluation.datasets import EvaluationDataset

    Predictions = NDArray[np.float32]

BATCH = {"cpu": 32, "cuda": 128}
"""Rows of a forward pass by the kind of device, unless memory ran out."""


class RowsScored(Progress):
    """Progress in rows, without a loss."""

    def status(self, step: int, loss: float, now: float) -> dict[str, Any]:
        """Return the status after a number of rows."""
        status = super().status(step, loss, now)
        return status | {"metrics": [{"name": "rows_scored", "value": str(step)}]}


@dataclass(frozen=True)
class Scored:
    """What one model makes of some rows.

    Attributes:
        predictions: float32 [rows, outputs].
        predicted: The tokens that a language model predicts; None for another model.
    """

    predictions: Predictions
    predicted: PredictedTokens | None

    @staticmethod
    def join(parts: Sequence[Scored], model: Scorer) -> Scored:
        """Concatenate the rows of several parts; of none, there are no rows."""
        none = np.empty((0, model.task.width), np.float32)
        predicts = model.preprocess.predicts_tokens
        return Scored(
            np.concatenate([each.predictions for each in parts] or [none]),
            PredictedTokens.join([each.predicted for each in parts if each.predicted])
            if predicts
            else None,
        )

    def of(self, model: Scorer) -> Scores:
        """Return the scores, with the labels that the tokens of all rows give."""
        labels = predicted_tokens.labels(self.predicted) if self.predicted else None
        return Scores(model.task, self.predictions, labels, self.predicted)


def score_all(
    datasets: Sequence[EvaluationDataset],
    models: Sequence[Sequence[Scorer]],
    *,
    scratch: Path,
    divisor: int = 1,
) -> list[list[Scores]]:
    """Score every dataset with its models.

    Args:
        datasets: The rows.
        models: The models of each dataset.
        scratch: A folder of this pod on the file system of the frozen rows.
        divisor: Divides the rows of a forward pass; 1, doubled each time that memory ran out.

    Returns:
        The scores of each model for each dataset, in the given order; of a bi-encoder, the rank at
        which each query finds its document.
    """
    pairs = list(zip(datasets, models, strict=True))
    total = sum(len(by) * len(each.table) for each, by in pairs if each.table is not None)
    progress = RowsScored(Reporter.of(os.environ), first=0, total=max(total, 1))
    done, found = 0, []
    for dataset, by in pairs:
        observe = _reporting(progress, done)
        made = score_rows(dataset, by, scratch=scratch, observe=observe, divisor=divisor)
        done += sum(len(each.predictions) for each in made)
        search = Search(dataset, by)
        found.append(
            [_searched(search, *each, divisor).of(each[1]) for each in zip(made, by, strict=True)]
        )
    return found


def _searched(search: Search, scored: Scored, model: Scorer, divisor: int) -> Scored:
    """Replace the vectors of a bi-encoder by ranks."""
    if model.documents is None:
        return scored
    size = _pass_rows(model, divisor)
    return replace(scored, predictions=search.ranks(model, scored.predictions, size))


def _pass_rows(model: Scorer, divisor: int) -> int:
    """Return the rows of a forward pass: on a GPU memory may not suffice for as many as usual.

    How many they are changes scores by rounding only.
    """
    return max(1, BATCH.get(model.model.device.type, 32) // divisor)


def score_rows(
    dataset: EvaluationDataset,
    models: Sequence[Scorer],
    *,
    scratch: Path,
    observe: Callable[[int], None],
    divisor: int = 1,
) -> list[Scored]:
    """Score the rows of one dataset with its models; of a bi-encoder, the vectors of the queries.

    `observe` is called after each batch with the number of rows scored, by all models together.
    `divisor` is that of `score_all`.

    Raises:
        Refused: MissingColumn, a model reads a column that the rows lack.
    """
    _check_columns(dataset, models)
    tokens: dict[Key, Tokens] = {}
    done, found = 0, []
    for model in models:
        key = Key.of(f"{dataset.digest}/{dataset.role}", model.preprocess, model.folder)
        if key not in tokens:
            tokens[key] = _tokens(dataset, model, key, scratch)
        size = _pass_rows(model, divisor)
        scores = _score(tokens[key], model, size, partial(_observe_after, observe, done))
        predicts = model.preprocess.predicts_tokens
        found.append(Scored(scores, PredictedTokens.of(tokens[key]) if predicts else None))
        done += len(scores)
    return found


def _check_columns(dataset: EvaluationDataset, models: Sequence[Scorer]) -> None:
    """Refuse rows without a column that a model reads, such as live a feature that was removed."""
    if dataset.table is None:
        return
    known = inputs(dataset.table.slice(0, 0))
    for model in models:
        if missing := [name for name in model.preprocess.inputs if name not in known]:
            raise Refused(
                "MissingColumn",
                f"rows of dataset {dataset.name!r} have no {missing}, and the live model, or "
                "another one that is compared, reads them: name them in features again; template "
                "may leave them out",
                "spec.data.source.columns.features",
            )


def _reporting(progress: Progress, before: int) -> Callable[[int], None]:
    return lambda rows: progress.observe(before + rows, float("nan"))


def _observe_after(observe: Callable[[int], None], before: int, rows: int) -> None:
    observe(before + rows)


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
    return cached(model.tokenizer, chunks, key=key, place=Place(dataset.folder, scratch))


def _score(tokens: Tokens, model: Scorer, size: int, observe: Callable[[int], None]) -> Any:
    """Score all rows, so many in a pass: float32 [rows, outputs]."""
    rows = np.arange(len(tokens.lengths))
    return predict(model.task, model.model, tokens, rows=rows, batch_size=size, observe=observe)
