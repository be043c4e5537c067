"""The tasks by their type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_trainer.errors import Refused
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language.causal_lm import CausalLM
from springtide_trainer.tasks.language.masked_lm import MaskedLM
from springtide_trainer.tasks.multi_label import MultiLabel
from springtide_trainer.tasks.ranking import Ranking
from springtide_trainer.tasks.regression import Regression

if TYPE_CHECKING:
    from collections.abc import Callable

    from springtide_trainer.tasks.task import Task, TaskSpec


def _classification(spec: TaskSpec) -> Task:
    several = spec.classification is not None and spec.classification.multi_label
    return MultiLabel.of(spec) if several else Classification.of(spec)


TASKS: dict[str, Callable[[TaskSpec], Task]] = {
    "Classification": _classification,
    "Regression": Regression.of,
    "Ranking": Ranking.of,
    "Embedding": Embedding.of,
    "CausalLM": CausalLM.of,
    "MaskedLM": MaskedLM.of,
}


def task_of(spec: TaskSpec) -> Task:
    """Return the task of a recipe's model or of an artifact.

    Raises:
        Refused: this version does not have the task, or its options are incomplete.
    """
    if spec.task not in TASKS:
        raise Refused(
            "UnsupportedTask",
            f"task {spec.task[:32]!r} is not one of {', '.join(TASKS)}; use an image of the "
            "version that wrote it",
            "spec.model.task",
        )
    return TASKS[spec.task](spec)
