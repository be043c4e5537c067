"""Early stopping uses a validation split of the training rows and restores the best weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import nn

from springtide_api.contract import ExitCode
from springtide_api.update.training import EarlyStopping as Options
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.metrics.classification import value
from springtide_trainer.tasks.metrics.statistic import EncodedRows
from springtide_trainer.training.early_stopping import EarlyStopping, validation_split


@given(
    st.lists(st.text(max_size=3), min_size=2, max_size=60).filter(
        lambda names: len(set(names)) > 1
    ),
    st.floats(0, 1),
)
def test_the_validation_split_has_whole_entities_at_least_one_and_never_all(entities, fraction):
    held_out = validation_split(entities, fraction, manifest="sha256:1")
    inside = {entity for entity, out in zip(entities, held_out, strict=True) if out}
    outside = {entity for entity, out in zip(entities, held_out, strict=True) if not out}
    assert inside
    assert outside
    assert not inside & outside
    wanted = min(max(1, math.ceil(fraction * len(set(entities)))), len(set(entities)) - 1)
    assert len(inside) == wanted


def test_the_validation_split_does_not_depend_on_the_order_of_rows():
    entities = [str(number) for number in range(50)]
    assert held_out_entities(entities) == held_out_entities(entities[::-1])


def held_out_entities(entities: list[str], manifest: str = "sha256:1") -> set[str]:
    held_out = validation_split(entities, 0.2, manifest=manifest)
    return {entity for entity, out in zip(entities, held_out, strict=True) if out}


def test_each_window_holds_out_different_entities():
    entities = [str(number) for number in range(50)]
    left_out = [held_out_entities(entities, f"sha256:{window}") for window in range(30)]
    assert left_out[0] != left_out[1]
    assert not set.intersection(*left_out)
    assert set.union(*left_out) == set(entities)


def test_one_entity_is_too_few_for_early_stopping():
    with pytest.raises(Refused, match=r"needs at least 2 entities .* the window has 1;") as refused:
        validation_split(["a", "a"], 0.1, manifest="sha256:1")
    assert refused.value.code == ExitCode.TOO_LITTLE_DATA


def fit_with_metrics(values: list[float], **options) -> tuple[EarlyStopping, nn.Linear, str | None]:
    """Train with weights equal to the step number and the given metrics, from step 0."""
    model = nn.Linear(1, 1, bias=False)
    left = iter(values)
    stopping = EarlyStopping(
        Options(every_steps=1, **options),
        model,
        metric=options.get("metric", "log_loss"),
        last=len(values) - 1,
        measure=lambda: next(left),
    )
    model.weight.data.fill_(0.0)
    stopping.begin()
    for step in range(1, len(values)):
        model.weight.data.fill_(float(step))
        stopping.observe(step, 0.0)
        if reason := stopping.stop(step):
            return stopping, model, reason
    return stopping, model, None


def test_the_best_weights_are_restored_not_the_last():
    stopping, model, reason = fit_with_metrics([0.6, 0.5, 0.3, 0.4], patience=5)
    stopping.restore_best()
    assert (model.weight.item(), stopping.best_value, reason) == (2.0, 0.3, None)


def test_training_stops_when_patience_is_exhausted():
    stopping, _, reason = fit_with_metrics([0.7, 0.5, 0.6, 0.6, 0.1], patience=2)
    assert reason == "patience exhausted"
    assert stopping.best_step == 1


def test_every_few_steps_and_the_last_one_are_validated():
    model = nn.Linear(1, 1)
    stopping = EarlyStopping(
        Options(every_steps=4), model, metric="log_loss", last=10, measure=lambda: 0.5
    )
    assert [step for step in range(1, 11) if stopping.due(step)] == [4, 8, 10]


def test_the_parents_weights_are_kept_if_no_step_improves():
    stopping, model, reason = fit_with_metrics([0.3, 0.4, 0.5], patience=2)
    stopping.restore_best()
    assert (model.weight.item(), stopping.best_value, stopping.best_step) == (0.0, 0.3, 0)
    assert reason == "patience exhausted"


def test_validation_at_step_0_is_not_repeated_after_a_checkpoint():
    model = nn.Linear(1, 1, bias=False)
    values = iter([0.3])
    first = EarlyStopping(Options(), model, metric="log_loss", last=9, measure=lambda: next(values))
    first.begin()
    again = EarlyStopping(Options(), model, metric="log_loss", last=9, measure=lambda: next(values))
    again.load_state_dict(first.state_dict())
    again.begin()
    assert (again.best_value, again.best_step) == (0.3, 0)


def test_a_training_without_improvement_returns_the_parents_weights(world):
    run = world.run_file(
        hyperparameters={"epochs": 1, "batchSize": 16, "learningRate": "1"},
        earlyStopping={"everySteps": 1, "patience": 2, "validationFraction": "0.25"},
    )
    out = world.train(run)
    assert out.stop_reason == "patience exhausted"
    assert out.metrics["best_step"] == 0
    assert out.artifact.digest == world.parent.digest


def test_a_higher_auc_is_better():
    stopping, _, _ = fit_with_metrics([0.4, 0.5, 0.6, 0.4], patience=5, metric="auc")
    assert stopping.best_step == 2


def test_a_gain_below_min_delta_is_no_improvement():
    stopping, _, reason = fit_with_metrics([0.7, 0.50, 0.49, 0.48], patience=2, min_delta="0.1")
    assert stopping.best_step == 1
    assert reason == "patience exhausted"


def test_a_nan_metric_is_no_improvement():
    stopping, _, _ = fit_with_metrics([0.6, 0.5, math.nan, 0.4], patience=5)
    assert stopping.best_step == 3


def test_auc_of_one_class_is_refused_with_what_to_change():
    with pytest.raises(Refused, match="choose log_loss"):
        Classification(["no", "yes"]).check_validation("auc", np.array([1, 1, 1]))
    Classification(["no", "yes"]).check_validation("log_loss", np.array([1, 1, 1]))


def test_auc_of_many_classes_is_the_mean_over_those_that_occur():
    labels = np.array([0, 0, 2, 2])
    scores = np.array([[0.6, 0.1, 0.3], [0.2, 0.1, 0.7], [0.3, 0.2, 0.5], [0.1, 0.1, 0.8]], "f4")
    expected = np.mean([roc_auc_score(labels == c, scores[:, c]) for c in (0, 2)])
    rows = EncodedRows(labels, np.arange(4))
    assert value("auc", rows, scores) == pytest.approx(expected)


def test_early_stopping_trains_only_on_entities_outside_the_validation_split(world):
    run = world.run_file(
        hyperparameters={"epochs": 2, "batchSize": 16, "learningRate": "1e-3"},
        earlyStopping={"everySteps": 5, "patience": 3, "validationFraction": "0.25"},
    )
    out = world.train(run)
    assert out.rows == 180
    assert {"validation", "best_step"} <= out.metrics.keys()


def test_patience_is_restored_after_a_crash(world):
    options = {"maxSteps": 60, "batchSize": 16, "learningRate": "1e-9"}
    stopping = {"everySteps": 5, "patience": 2, "minDelta": "1"}
    run = world.run_file(
        hyperparameters=options, earlyStopping=stopping, checkpoint={"everySteps": 5}
    )
    first = world.train(run)
    assert (first.steps, first.stop_reason) == (10, "patience exhausted")
    again = world.train(run)
    assert (again.steps, again.stop_reason) == (10, "patience exhausted")
    assert again.artifact.digest == first.artifact.digest


def test_validation_does_not_change_the_weights(world):
    plain = {"epochs": 1, "batchSize": 16, "learningRate": "1e-3", "dropout": "0.2"}
    stopping = {"everySteps": 1000, "patience": 100, "validationFraction": "0.25"}
    stopping["minDelta"] = "-1000"  # the newest validation is always the best
    rare = world.train(world.run_file("a", hyperparameters=plain, earlyStopping=stopping))
    often = {**stopping, "everySteps": 1}
    again = world.train(world.run_file("b", hyperparameters=plain, earlyStopping=often))
    assert rare.artifact.digest == again.artifact.digest


def test_a_metric_without_a_value_before_the_first_step_is_refused():
    with pytest.raises(Refused, match="auc has no value on the validation rows") as refused:
        fit_with_metrics([math.nan, 0.5, 0.6], metric="auc")
    assert refused.value.failure.field == "spec.training.earlyStopping.metric"
