"""Guesses the task of a starter recipe from the labels of the data and the model's head."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from springtide_trainer.local.starting.source_guess import Guess

MAX_LABELS = 256
NUMBER = r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
UNKNOWN = "CHANGE-ME"
"""Start of what stands for a value that was not found."""


def guess_task(config: dict[str, Any], found: Guess) -> tuple[dict[str, str], bool]:
    """Return the parts of the template that depend on the task, and whether the head is trained.

    Raises:
        Refused: the label is neither one of a few labels nor a number.
    """
    known = _known_labels(config)
    if len(found.labels) > MAX_LABELS:
        if not all(re.fullmatch(NUMBER, label) for label in found.labels):
            raise Refused(
                "TooManyLabels",
                f"column {found.columns['label']!r} has {len(found.labels):,} different values in "
                f"the first rows that are not all numbers; Classification has at most {MAX_LABELS} "
                "labels, Regression needs numbers: give the column with the label the name label",
                "--data",
            )
        note = f"The label has {len(found.labels):,} different numbers in the first rows."
        return {
            "task_note": note,
            "task": "task: Regression",
            "metric": "r2",
            "floor": "0.1",
        }, len(known) == 1
    labels, trained = _labels(known, found)
    binary = len(labels) == 2
    return {
        "task_note": f"As written in the data{'; the second is the positive one' * binary}.",
        "task": f"labels: {json.dumps(labels, ensure_ascii=False)}",
        "metric": "auc" if binary else "accuracy",
        "floor": "0.6" if binary else "0.5",
    }, trained


def _known_labels(config: dict[str, Any]) -> list[str]:
    """Return the labels of the model's trained head; none without one."""
    kinds, labels = config.get("architectures"), config.get("id2label")
    trained = isinstance(kinds, list) and any("SequenceClassification" in str(k) for k in kinds)
    if not trained or not isinstance(labels, dict) or not all(map(str.isdecimal, labels)):
        return []
    return [str(labels[number]) for number in sorted(labels, key=int)]


def _labels(known: list[str], found: Guess) -> tuple[list[str], bool]:
    """Return the labels, and whether the model's head was trained for them."""
    if len(known) > 1 and {*found.labels} <= {*known}:
        return known, True
    missing = [f"{UNKNOWN}-{number}" for number in (0, 1)]
    return (found.labels + missing)[: max(2, len(found.labels))], False
