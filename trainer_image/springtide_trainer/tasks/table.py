"""The tasks by their type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_trainer.tasks.classification import Classification

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from springtide_trainer.tasks.task import Task

TASKS: dict[str, Callable[[list[str]], Task]] = {
    "Classification": Classification,
}


def task_of(labels: Sequence[str]) -> Task:
    """Return the task of a spec or an artifact. Neither names a type: there is only one."""
    return TASKS["Classification"](list(labels))
