"""Scores datasets in shards, which several pods share: ranges of rows whose scores are kept.

Each pod scores the shards of its number and ends; the first one then also scores those that the
others have not, and joins all. So it can finish alone, and what a killed attempt scored is used.
A batch has rows of one shard only: the scores do not depend on which pod scored which shard.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from springtide_trainer.evaluation.kept_scores import Key
from springtide_trainer.evaluation.scoring import RowsScored, Scored, score_rows
from springtide_trainer.progress import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.evaluation.comparison import Scores
    from springtide_trainer.evaluation.datasets import EvaluationDataset
    from springtide_trainer.evaluation.kept_scores import KeptScores
    from springtide_trainer.progress import Reporter

    Load = Callable[[str], Scorer]
    """Loads a model by its digest, once."""


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """A range of the rows of a dataset, with the models that score it.

    Attributes:
        of: Index of the dataset.
        rows: The rows, as a dataset of their own.
        key: The key of their scores, with the digests of the models.
    """

    of: int
    rows: EvaluationDataset
    key: Key

    @property
    def work(self) -> int:
        """Rows to score, by all models together."""
        return self.key.count * len(self.key.models)


def cut(
    datasets: Sequence[EvaluationDataset], models: Sequence[Sequence[str]], size: int
) -> list[Shard]:
    """Cut datasets into shards of `size` rows; the last one of a dataset may have fewer.

    Args:
        datasets: The rows.
        models: Digests of the models of each dataset.
        size: Rows of a shard.
    """
    found = []
    for index, (dataset, by) in enumerate(zip(datasets, models, strict=True)):
        table = dataset.table
        for start in range(0, 0 if table is None else len(table), size):
            assert table is not None
            part = table.slice(start, size)
            digest = f"{dataset.digest}[{start}:{start + len(part)}]"
            # Without a folder: the tokens of a shard are read once, so they are not cached.
            rows = replace(dataset, table=part, digest=digest, folder=None)
            key = Key.of(f"{digest}/{dataset.role}", len(part), by)
            found.append(Shard(index, rows, key))
    return found


def join(
    shards: Sequence[Shard], scored: Sequence[Sequence[Scored]], models: Sequence[Sequence[Scorer]]
) -> list[list[Scores]]:
    """Return the scores of each model for each dataset.

    Args:
        shards: All shards.
        scored: Their scores.
        models: The models of each dataset.
    """
    parts: list[list[Sequence[Scored]]] = [[] for _ in models]
    for shard, each in zip(shards, scored, strict=True):
        parts[shard.of].append(each)
    return [
        [
            Scored.join([each[place] for each in of], model).of(model)
            for place, model in enumerate(by)
        ]
        for of, by in zip(parts, models, strict=True)
    ]


class Superseded(Exception):
    """Another pod has committed the scores of a shard while this one scored it."""


class ShardScorer:
    """Scores the shards of an evaluation and keeps their scores.

    Args:
        shards: All of them, in an order that all pods have.
        kept: Where the scores are kept.
        load: Loads a model by its digest.
        reporter: Where progress is reported; None: nowhere.
        divisor: Divides the rows of a forward pass; 1, doubled each time that memory ran out.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        kept: KeptScores,
        load: Load,
        *,
        reporter: Reporter | None,
        divisor: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shards = shards
        self._kept = kept
        self._load = load
        self._divisor = divisor
        self._clock = clock
        total = sum(shard.work for shard in shards)
        self._progress = RowsScored(reporter, first=self._done(), total=max(total, 1))

    def score_own(self, rank: int, pods: int) -> None:
        """Score the shards of one pod whose scores are not there.

        Args:
            rank: The number of the pod, from 0.
            pods: How many pods there are.
        """
        for shard in self._shards[rank::pods]:
            if shard.key.folder not in self._kept.names():
                self._score(shard, lambda: None)

    def score_rest(self) -> list[list[Scored]]:
        """Return the scores of all shards; score those that are not there, from the last one.

        The pods of the last ones are the least likely to have begun.
        """
        found: dict[Key, list[Scored]] = {}
        while True:
            there = self._kept.names()  # in an object store, a look for each shard takes hours
            for key in (shard.key for shard in self._shards):
                if key in found or key.folder not in there:
                    continue
                if scored := self._kept.read(key):
                    found[key] = scored
            missing = [shard for shard in self._shards if shard.key not in found]
            if not missing:
                return [found[shard.key] for shard in self._shards]
            with suppress(Superseded):
                self._score(missing[-1], self._superseding(missing[-1]))

    def _score(self, shard: Shard, check: Callable[[], None]) -> None:
        """Score a shard and commit its scores; call `check` after each batch."""
        before = self._done()

        def observe(rows: int) -> None:
            self._progress.observe(before + rows, math.nan)
            check()

        models = [self._load(digest) for digest in shard.key.models]
        scored = score_rows(
            shard.rows,
            models,
            scratch=self._kept.scratch,
            observe=observe,
            divisor=self._divisor,
        )
        self._kept.commit(shard.key, scored)
        log.info("shard scored", extra={"rows": shard.key.rows})

    def _superseding(self, shard: Shard) -> Callable[[], None]:
        """Return what ends the scoring of a shard once its own pod has committed it."""
        last = self._clock()

        def check() -> None:
            nonlocal last
            if self._clock() - last >= INTERVAL:
                last = self._clock()
                if shard.key.folder in self._kept.names():
                    raise Superseded

        return check

    def _done(self) -> int:
        """Return how many rows are scored, by all pods together."""
        there = self._kept.names()
        return sum(shard.work for shard in self._shards if shard.key.folder in there)
