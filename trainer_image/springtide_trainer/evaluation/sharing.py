"""The scores of an evaluation: of all rows at once, or in shards that this pod and others score."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.compared_models import ComparedModels
from springtide_trainer.evaluation.datasets import read_dataset
from springtide_trainer.evaluation.kept_scores import KeptScores
from springtide_trainer.evaluation.scoring import score_all
from springtide_trainer.evaluation.shards import ShardScorer, cut, join
from springtide_trainer.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from springtide_api.contract import EvaluateInput, RunFile
    from springtide_trainer.evaluation.comparison import Scores
    from springtide_trainer.evaluation.datasets import EvaluationDataset
    from springtide_trainer.evaluation.shards import Shard
    from springtide_trainer.storage import Home


def evaluate_input(run: RunFile) -> EvaluateInput:
    """Return the input of an evaluation.

    Raises:
        Refused: InvalidRunFile, there is none.
    """
    if run.evaluate is None:
        raise Refused("InvalidRunFile", "stage evaluate needs the block evaluate in run.json")
    return run.evaluate


def scores_of(
    datasets: Sequence[EvaluationDataset], run: RunFile, home: Home, tmp: Path
) -> list[list[Scores]]:
    """Score all datasets with candidate and live model, and the reference if a rule needs it.

    Raises:
        Refused: an artifact does not match its digest, or the task has no shards.
    """
    given = evaluate_input(run)
    models, names = ComparedModels(given, run.recipe), [each.name for each in datasets]
    size = run.recipe.data.window.rows_per_shard
    if size is None:
        loaded = models.load_all(names)
        scores = score_all(datasets, loaded, scratch=tmp, divisor=given.batch_divisor)
    else:
        shards = _shards(datasets, models, run, size)
        reporter = Reporter.of(os.environ)
        scorer = ShardScorer(
            shards,
            _kept(run, home, tmp),
            models.load,
            reporter=reporter,
            divisor=given.batch_divisor,
        )
        scorer.score_own(0, given.pods)
        scores = join(shards, scorer.score_rest(), models.load_all(names))
    return [models.with_reference(each) for each in scores]


def score_share(run: RunFile, home: Home, tmp: Path, rank: int) -> None:
    """Score the shards of a pod that is not the first one; that one evaluates.

    Raises:
        Refused: an artifact or rows do not match their digest, or rows are not valid.
    """
    given, size = evaluate_input(run), run.recipe.data.window.rows_per_shard
    if size is None:
        return
    datasets = [read_dataset(each, given, run.recipe) for each in run.recipe.evaluation.datasets]
    models = ComparedModels(given, run.recipe)
    shards = _shards(datasets, models, run, size)
    scorer = ShardScorer(
        shards,
        _kept(run, home, tmp),
        models.load,
        reporter=None,
        divisor=given.batch_divisor,
    )
    scorer.score_own(rank, given.pods)


def _shards(
    datasets: Sequence[EvaluationDataset], models: ComparedModels, run: RunFile, size: int
) -> list[Shard]:
    """Return the shards of an evaluation, in the same order in each pod.

    Raises:
        Refused: UnsupportedTask, it has no shards.
    """
    if run.recipe.model.task == "Embedding":
        raise Refused(
            "UnsupportedTask",
            "data.window.rowsPerShard is not available for task Embedding, whose ranks need the "
            "documents of all rows; remove it",
            "spec.data.window.rowsPerShard",
        )
    return cut(datasets, [models.of(each.name) for each in datasets], size)


def _kept(run: RunFile, home: Home, tmp: Path) -> KeptScores:
    """Return where scores are kept: among the checkpoints, as what is not finished."""
    return KeptScores(home.checkpoints(run.number or 0), tmp)
