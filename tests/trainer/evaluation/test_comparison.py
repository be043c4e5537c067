"""Models with different labels are compared over the live model's labels."""

import numpy as np
import pytest

from springtide_api.update.task import CausalLMOptions
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.comparison import Scores, measure
from springtide_trainer.evaluation.confidence_intervals import Resampling
from springtide_trainer.evaluation.predicted_tokens import PredictedTokens, labels
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.language.causal_lm import CausalLM
from springtide_trainer.tasks.language.masked_lm import MaskedLM
from springtide_trainer.tasks.metrics.classification import value
from springtide_trainer.tasks.metrics.statistic import EncodedRows

BY = Resampling(samples=200)


def scores(labels: list[str], probabilities: np.ndarray) -> Scores:
    return Scores(Classification(labels), probabilities)


def shares(random: np.random.Generator, rows: int, labels: int) -> np.ndarray:
    made = random.random((rows, labels)) + 0.05
    return made / made.sum(axis=1, keepdims=True)


def test_the_comparison_uses_the_live_models_labels_and_rows() -> None:
    random = np.random.default_rng(1)
    label = random.integers(0, 3, 300)
    rows = EncodedRows(label, np.arange(300))
    candidate = scores(["no", "click", "buy"], shares(random, 300, 3))
    live = scores(["no", "click"], shares(random, 300, 2))

    found = measure(["log_loss", "auc"], rows, candidate=candidate, live=live, by=BY)

    old = label < 2
    fewer = EncodedRows(label[old], np.arange(old.sum()))
    narrowed = candidate.predictions[old, :2]
    narrowed = narrowed / narrowed.sum(axis=1, keepdims=True)
    for metric, of in found.items():
        assert of.candidate.value == pytest.approx(value(metric, rows, candidate.predictions))
        assert of.live.value == pytest.approx(value(metric, fewer, live.predictions[old]))
        delta = value(metric, fewer, narrowed) - value(metric, fewer, live.predictions[old])
        assert of.delta.value == pytest.approx(delta)


def test_labels_are_matched_by_name() -> None:
    random = np.random.default_rng(2)
    rows = EncodedRows(random.integers(0, 2, 100), np.arange(100))
    predicted = shares(random, 100, 2)
    turned = measure(
        ["accuracy"],
        rows,
        candidate=scores(["no", "yes"], predicted),
        live=scores(["yes", "no"], predicted[:, ::-1]),
        by=BY,
    )["accuracy"]
    assert turned.live.value == turned.candidate.value
    assert turned.delta.value == 0


def test_a_candidate_without_a_label_of_the_live_model_is_refused() -> None:
    rows = EncodedRows(np.array([0, 1]), np.arange(2))
    one, two = scores(["a", "b"], np.full((2, 2), 0.5)), scores(["a", "c"], np.full((2, 2), 0.5))
    with pytest.raises(Refused, match="append-only"):
        measure(["auc"], rows, candidate=one, live=two, by=BY)


def test_probability_1_for_a_new_label_becomes_uniform_over_the_old_ones() -> None:
    rows = EncodedRows(np.array([0, 1, 2]), np.arange(3))
    candidate = scores(["a", "b", "c"], np.tile([0.0, 0.0, 1.0], (3, 1)))
    live = scores(["a", "b"], np.full((3, 2), 0.5))
    found = measure(["log_loss"], rows, candidate=candidate, live=live, by=BY)["log_loss"]
    assert found.delta.value == pytest.approx(0.0)


def test_a_model_with_nan_scores_has_undefined_metrics() -> None:
    rows = EncodedRows(np.array([0, 1, 0, 1]), np.arange(4))
    broken = scores(["a", "b"], np.full((4, 2), np.nan))
    fine = scores(["a", "b"], np.full((4, 2), 0.5))
    found = measure(["auc", "ece"], rows, candidate=broken, live=fine, by=BY)
    assert all(np.isnan([of.candidate.value, of.delta.low]).all() for of in found.values())
    assert found["auc"].live.value == 0.5


def test_bounds_of_the_calibration_error_are_the_wider_of_two_kinds() -> None:
    random = np.random.default_rng(3)
    chance = random.random(500)
    rows = EncodedRows((random.random(500) < chance).astype(int), np.arange(500))
    calibrated = scores(["a", "b"], np.stack([1 - chance, chance], axis=1))
    found = measure(["ece"], rows, candidate=calibrated, live=None, by=BY)["ece"].candidate
    assert found.low < found.value < found.high


RESPONSES = [[7, 8, 9, 1], [7, 8, 9, 5, 5, 5, 5, 1]] * 40
"""Tokens of short and of long responses. The first four are hard to predict, the others easy."""


def likelihoods(most: int, hard: np.ndarray) -> Scores:
    """The scores of a decoder that reads so many tokens of a response."""
    kept = [response[:most] for response in RESPONSES]
    counts = np.array([len(response) for response in kept])
    predicted = PredictedTokens(np.concatenate(kept), counts)
    means = (hard * 4 + 0.1 * (counts - 4)) / counts
    task = CausalLM(CausalLMOptions())
    return Scores(task, means[:, None], labels(predicted), predicted)


def test_a_decoder_is_no_better_because_it_reads_more_of_each_response() -> None:
    hard = np.random.default_rng(4).normal(3.0, 0.2, len(RESPONSES))
    longer, live = likelihoods(8, hard), likelihoods(4, hard)
    rows = EncodedRows(longer.labels, np.arange(len(RESPONSES)))
    found = measure(["perplexity"], rows, candidate=longer, live=live, by=BY)["perplexity"]
    assert found.candidate.value < 8 < found.live.value
    assert found.delta.value == 0
    assert not found.delta.high < 0

    worse = likelihoods(8, hard + 0.5)
    found = measure(["perplexity"], rows, candidate=worse, live=live, by=BY)["perplexity"]
    assert found.delta.low > 0
    assert found.delta.entities == 40
    point = measure(["perplexity"], rows, candidate=worse, live=live, by=None)["perplexity"]
    assert point.delta.value == found.delta.value


def test_encoders_of_another_template_have_no_comparison() -> None:
    """Words that a template adds to each text are hidden too, and easy to predict."""
    rng = np.random.default_rng(5)
    count = np.full(50, 3)
    longer, live = (
        PredictedTokens(rng.integers(low, low + 100, 150), count) for low in (1_000, 2_000)
    )
    easy, hard = (
        Scores(MaskedLM(), np.full((50, 2), mean) + rng.random((50, 2)) / 10, labels(each), each)
        for mean, each in ((0.2, longer), (0.7, live))
    )
    rows = EncodedRows(easy.labels, np.arange(50))
    for by in (BY, None):
        found = measure(["perplexity", "masked_accuracy"], rows, candidate=easy, live=hard, by=by)
        for of in found.values():
            assert np.isfinite(of.candidate.value)
            assert np.isnan([of.live.value, of.delta.value, of.delta.high]).all()
