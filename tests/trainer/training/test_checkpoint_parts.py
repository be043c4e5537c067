"""A checkpoint holds every part of a run, by name, and is refused if it holds others."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from springtide_api.update.robustness import Averaging as Averages
from springtide_api.update.training import EarlyStopping as Options
from springtide_trainer import training
from springtide_trainer.errors import Refused
from springtide_trainer.training import optimizer
from springtide_trainer.training.checkpoints import State
from springtide_trainer.training.early_stopping import EarlyStopping
from springtide_trainer.training.precision import Precision
from springtide_trainer.training.robustness.averaging import Averaging
from springtide_trainer.training.training_state import Run, Stateful, capture, restore


def run(*, stopping: bool = True, averaged: bool = False, seed: int = 0) -> Run:
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    return Run(
        model,
        optimizer.build("AdamW", model, learning_rate=0.1, weight_decay=0.0),
        Precision("FP32", torch.device("cpu")),
        EarlyStopping(Options(), model, metric="auc", last=9, measure=lambda: 0.5)
        if stopping
        else None,
        Averaging(Averages(ema="0.8"), model, total=9) if averaged else None,
    )


def after_two_steps(*, averaged: bool = False) -> Run:
    trained = run(averaged=averaged)
    assert trained.early_stopping is not None
    trained.early_stopping.begin()
    for step in (1, 2):
        torch.autograd.backward(trained.model(torch.ones(4, 3)).square().sum())
        trained.optimizer.step()
        trained.optimizer.zero_grad()
        if trained.averaging is not None:
            trained.averaging.observe(step, 0.0)
    trained.precision.stepped = True
    return trained


def test_a_restored_run_has_the_state_of_every_part():
    trained, again = after_two_steps(averaged=True), run(averaged=True, seed=1)
    restore(again, capture(trained, 2))
    first, second = capture(trained, 2), capture(again, 2)
    assert first.numbers == second.numbers
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    held = {name.partition("/")[0] for name in first.tensors} | first.numbers.keys()
    assert held == {"weights", "optimizer", "precision", "earlyStopping", "averaging"}


def test_every_class_of_the_training_that_has_a_state_is_a_part_of_a_run():
    modules = [
        importlib.import_module(each.name)
        for each in pkgutil.walk_packages(training.__path__, f"{training.__name__}.")
    ]
    with_state = {
        each
        for module in modules
        for each in vars(module).values()
        if inspect.isclass(each) and "load_state_dict" in vars(each)
    }
    own = {each for each in with_state if each.__module__.startswith(training.__name__)}
    assert own - {Stateful} == {type(part) for part in run(averaged=True).parts.values()}


@pytest.mark.survives(
    "Model",
    "a checkpoint with a part of the training missing, or with one too many",
    "refused with the names of the parts and what to do",
)
def test_a_checkpoint_with_a_part_missing_is_refused_with_its_name():
    state = capture(run(stopping=False), 7)
    with pytest.raises(Refused, match=r"step 7: 1 of 4 parts missing \(earlyStopping\)") as no:
        restore(run(), state)
    assert no.value.failure.reason == "CheckpointMismatch"


def test_a_checkpoint_with_a_part_too_many_is_refused_with_its_name():
    state = capture(run(), 7)
    with pytest.raises(Refused, match=r"step 7: 1 unknown \(earlyStopping\)"):
        restore(run(stopping=False), state)


def test_a_part_of_tensors_alone_is_found_too():
    state = capture(run(), 7)
    more = replace(state, tensors=state.tensors | {"ema/weight": torch.zeros(2)})
    with pytest.raises(Refused, match=r"1 unknown \(ema\)"):
        restore(run(), more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights/bias": None}, r"weights of the checkpoint: 1 of 2 parts missing \(bias\)"),
        ({"weights/scale": torch.zeros(2)}, r"weights of the checkpoint: 1 unknown \(scale\)"),
    ],
)
def test_weights_that_the_model_does_not_train_or_that_are_missing_are_refused(change, message):
    state = capture(run(), 7)
    tensors = {name: each for name, each in (state.tensors | change).items() if each is not None}
    with pytest.raises(Refused, match=message):
        restore(run(), State(7, tensors, state.numbers))


def test_a_refused_checkpoint_leaves_the_run_unchanged():
    again = run(seed=1)
    before = {name: each.clone() for name, each in capture(again, 0).tensors.items()}
    state = capture(after_two_steps(), 2)
    with pytest.raises(Refused):
        restore(again, replace(state, numbers=state.numbers | {"ema": {}}))
    after = capture(again, 0).tensors
    assert all(torch.equal(before[name], after[name]) for name in before)
