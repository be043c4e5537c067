"""Run files of a training whose rows are tokenized in shards, and of the pods before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.contract import TokenizeInput

if TYPE_CHECKING:
    from springtide_api.contract import RunFile


def with_shards(run: RunFile, size: int | None) -> RunFile:
    """Return the run file with shards of so many rows, also of few."""
    window = run.recipe.data.window.model_copy(update={"rows_per_shard": size})
    data = run.recipe.data.model_copy(update={"window": window})
    return run.model_copy(update={"recipe": run.recipe.model_copy(update={"data": data})})


def tokenizing(training: RunFile, pods: int) -> RunFile:
    """Return the run file of the pods that tokenize for a training."""
    assert training.train is not None
    given = TokenizeInput(parent=training.train.parent, data=training.train.data, pods=pods)
    return training.model_copy(
        update={
            "stage": "tokenize",
            "job": training.job.replace("-train-", "-tokenize-"),
            "result": training.result or training.job,
            "train": None,
            "tokenize": given,
        }
    )
