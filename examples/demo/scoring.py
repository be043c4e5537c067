"""Scores generations on this machine for the demo's plot.

The operator evaluates a candidate against the live model only; the plot also shows generation 1,
as if it had never been updated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import shop
    from demo.example import Example

    from springtide_trainer.artifact.models import Scorer

SERVED = {"2026-03": 1, "2026-04": 2, "2026-05": 2, "2026-06": 3}
"""Generation that is live during each month of the demo: one month's run promotes for the next."""
ROWS = 600
"""Rows that are scored for each month: the standard error of AUC is near 0.02."""


@dataclass(frozen=True)
class MonthScore:
    """AUC in one month of the served generation, and of generation 1 on the same rows."""

    month: str
    generation: int
    served: float
    never_updated: float


class Scorers:
    """Copies generations from the cluster, each once, and scores them."""

    def __init__(self, example: Example, folder: Path) -> None:
        self._example, self._folder = example, folder
        self._loaded: dict[int, Scorer] = {}

    def auc(self, number: int, rows: Sequence[shop.Row]) -> float:
        """Return the AUC of a generation on rows."""
        from sklearn.metrics import roc_auc_score

        scorer = self._loaded.get(number) or self._load(number)
        columns = {"text": [row[2] for row in rows], "text_pair": [row[3] for row in rows]}
        scores = scorer.predict(scorer.preprocess.render(columns), 64)[:, 1]
        return float(roc_auc_score([int(row[4]) for row in rows], scores))

    def _load(self, number: int) -> Scorer:
        from springtide_trainer.artifact.models import load

        artifact: dict[str, Any] = self._example.generations()[number]["status"]["artifact"]
        folder = self._folder / f"g{number}"
        self._example.fetch(artifact["uri"].removeprefix("file://"), folder)
        self._loaded[number] = load(folder, artifact["servedDigest"])
        return self._loaded[number]


def by_month(
    scorers: Scorers, served: Mapping[str, int], rows: Mapping[str, Sequence[shop.Row]]
) -> list[MonthScore]:
    """Return the scores of each month.

    Args:
        scorers: score a generation.
        served: number of the generation that was live during the month.
        rows: the rows of each month, with their true labels.
    """
    scores = []
    for month, number in served.items():
        never = scorers.auc(1, rows[month])
        live = never if number == 1 else scorers.auc(number, rows[month])
        scores.append(MonthScore(month, number, live, never))
    return scores
