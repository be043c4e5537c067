"""The models that an evaluation compares: candidate, live model and reference, each loaded once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from springtide_judging.bounds import cumulative
from springtide_trainer.artifact.models import load
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.contract import EvaluateInput
    from springtide_api.generation.spec import Recipe
    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.evaluation.comparison import Scores


class ComparedModels:
    """Says which models score a dataset, and loads a model when it is needed first.

    Args:
        given: The models.
        recipe: The recipe, whose rules say where the reference is needed.
    """

    def __init__(self, given: EvaluateInput, recipe: Recipe) -> None:
        self._given = given
        self._rules = recipe.gate.rules
        self._loaded: dict[str, Scorer] = {}

    def of(self, dataset: str) -> list[str]:
        """Return the digests of the models that score a dataset.

        The reference is last, and none of them where no rule needs it or another is the same.
        """
        extra = self._given.reference
        compared = any(cumulative(rule) and rule.dataset == dataset for rule in self._rules)
        if extra is None or extra.digest in self._pair or not compared:
            return self._pair
        return [*self._pair, extra.digest]

    def load(self, digest: str) -> Scorer:
        """Return a model.

        Raises:
            Refused: the folder does not match the digest, or is unsafe to load.
        """
        if digest not in self._loaded:
            refs = (self._given.candidate, self._given.baseline, self._given.reference)
            uri = next(ref.uri for ref in refs if ref and ref.digest == digest)
            self._loaded[digest] = load(local_path(uri), digest)
        return self._loaded[digest]

    def load_all(self, datasets: Sequence[str]) -> list[list[Scorer]]:
        """Return the models of each dataset."""
        return [[self.load(digest) for digest in self.of(name)] for name in datasets]

    def with_reference(self, scores: list[Scores]) -> list[Scores]:
        """Add the scores of the reference, if it is one of the others: it is not scored twice."""
        extra = self._given.reference
        if extra is None or extra.digest not in self._pair:
            return scores
        return [*scores, scores[self._pair.index(extra.digest)]]

    @cached_property
    def _pair(self) -> list[str]:
        baseline = self._given.baseline
        return [self._given.candidate.digest, *([baseline.digest] if baseline else [])]
