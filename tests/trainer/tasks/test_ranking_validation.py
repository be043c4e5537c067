"""The training loss of Ranking as a validation metric."""

from __future__ import annotations

import numpy as np
import pytest

from springtide_trainer.tasks import ranking, ranking_losses
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole
from springtide_trainer.tasks.ranking import LOSS, Ranking


def task(loss: str = "Pairwise") -> Ranking:
    return Ranking({"no": 0.0, "yes": 1.0}, loss, 4096)


def groups(sizes: list[int], seed: int = 0) -> tuple[EncodedRows, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    rows = EncodedRows(rng.integers(0, 2, len(group)).astype(float), group, group)
    return rows, rng.normal(size=(len(group), 1))


@pytest.mark.parametrize("loss", ranking_losses.LOSSES)
def test_large_groups_have_their_loss_computed_in_chunks_of_bounded_memory(loss, monkeypatch):
    rows, scores = groups([3, 900, 2, 1500, 1500, *[4] * 600])
    computed = ranking_losses.LOSSES[loss]
    pairs: list[int] = []

    def counting(score, gain, sizes):
        pairs.append(len(sizes) * max(sizes) ** 2)
        return computed(score, gain, sizes)

    monkeypatch.setitem(ranking_losses.LOSSES, loss, counting)
    found = whole(task(loss).statistic(LOSS, rows, scores), rows)
    assert max(pairs) <= ranking.PAIRS
    monkeypatch.setattr(ranking, "CHUNK", 1)
    assert found == pytest.approx(whole(task(loss).statistic(LOSS, rows, scores), rows), rel=1e-12)
    assert len(pairs) > 600


def test_a_score_that_is_not_a_number_leaves_no_loss_of_the_other_groups():
    rows, scores = groups([4, 4])
    assert np.isfinite(whole(task().statistic(LOSS, rows, scores), rows))
    scores[0] = np.nan
    assert np.isnan(whole(task().statistic(LOSS, rows, scores), rows))
