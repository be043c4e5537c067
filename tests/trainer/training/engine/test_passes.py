"""A budget of tokens cuts a step into passes: it never sets the step, and never cuts a unit."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from trainer.training.conftest import toy_rows

from springtide_trainer.processes import Processes
from springtide_trainer.storage import local_path
from springtide_trainer.training import lower_outputs, session
from springtide_trainer.training.engine.pass_limits import PassLimits, pass_limits
from springtide_trainer.training.retention import distillation
from springtide_trainer.training.rows import validation
from springtide_trainer.training.rows.batches import steps
from springtide_trainer.training.rows.training_rows import load
from springtide_trainer.training.rows.units import passes

CPU, GPU = torch.device("cpu"), torch.device("cuda")
UNITS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=40)


@given(UNITS, st.integers(1, 30), st.integers(1, 200))
def test_passes_hold_at_most_their_rows_and_tokens_unless_one_unit_is_larger(units, rows, tokens):
    sizes, lengths = (np.array(each) for each in zip(*units, strict=True))
    cut = list(passes(sizes, lengths, rows=rows, tokens=tokens))
    assert [number for part in cut for number in range(len(sizes))[part]] == list(range(len(sizes)))
    for part in cut:
        held, padded = sizes[part].sum(), sizes[part].sum() * lengths[part].max()
        assert (held <= rows and padded <= tokens) or len(sizes[part]) == 1


def test_short_rows_share_a_pass_where_long_ones_have_one_each():
    ones = np.ones(6, np.int64)
    cut = passes(ones, np.array([4, 4, 4, 4, 16, 16]), rows=9, tokens=16)
    assert list(cut) == [slice(0, 4), slice(4, 5), slice(5, 6)]


def test_the_limits_are_rows_of_the_longest_length_and_out_of_memory_halves_the_tokens():
    assert pass_limits(32, 128, divisor=1, device=CPU) == PassLimits(32, 4096)
    assert pass_limits(32, 128, divisor=4, device=CPU) == PassLimits(32, 1024)
    assert pass_limits(1, 3, divisor=8, device=CPU) == PassLimits(1, 1)


def test_a_gpu_takes_all_rows_of_a_step_that_fit():
    assert pass_limits(32, 128, divisor=1, device=GPU) == PassLimits(sys.maxsize, 4096)


def test_out_of_memory_halves_what_a_process_has_of_a_step_and_no_larger_number():
    assert pass_limits(32, 128, divisor=1, device=GPU, step=8).tokens == 8 * 128
    assert pass_limits(32, 128, divisor=2, device=GPU, step=8).tokens == 4 * 128
    assert pass_limits(32, 128, divisor=2, device=GPU, step=64).tokens == 16 * 128


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_halving_halves_the_passes_of_each_process(world, freeze_rows, tmp_path, count):
    """Also the first one: an attempt with the same passes would run out of memory again."""
    rows = toy_rows(240) | {"text": ["a very good lamp"] * 240}
    world.data = freeze_rows(world.home, rows)
    run = world.run_file(hyperparameters={"batchSize": 16, "gradientAccumulation": 2})
    parent, data = local_path(run.train.parent.uri), local_path(run.train.data.uri)
    found = load(data, run.train.data.digest, run.recipe, parent=parent, scratch=tmp_path)

    def largest(divisor: int) -> int:
        given = run.train.model_copy(update={"batch_divisor": divisor})
        plan = session.Plan.of(
            run.model_copy(update={"train": given}),
            found,
            parent,
            device=GPU,
            scratch=tmp_path,
            processes=Processes(count - 1, count),
        )
        sampler = session._sampler(plan, found)
        last = sampler.steps_per_epoch
        asked = {"collate": torch.from_numpy, "first": 1, "last": last}
        made = steps(found.examples, sampler, **asked, processes=Processes(count - 1, count))
        return max(len(batch.labels) for step in made for batch in step.batches)

    whole = min(16, 32 // count)
    assert [largest(divisor) for divisor in (1, 2, 4)] == [whole, whole // 2, whole // 4]


def weights(world, job: str, divisor: int = 1) -> torch.Tensor:
    # AdamW would turn the rounding of a gradient near 0 into a whole step.
    chosen = {"batchSize": 8, "gradientAccumulation": 4, "optimizer": "SGD", "learningRate": "0.1"}
    chosen |= {"precision": "FP32"}
    run = world.run_file(job, divisor=divisor, hyperparameters=chosen)
    folder = local_path(world.train(run).artifact.uri)
    values = load_file(folder / "model.safetensors").values()
    return torch.cat([value.flatten() for value in values])


@pytest.mark.parametrize("divisor", [2, 8, 64])
def test_halved_passes_give_the_same_weights_within_rounding(world, divisor):
    torch.testing.assert_close(
        weights(world, "halved", divisor), weights(world, "whole"), atol=1e-5, rtol=0
    )


def test_passes_as_on_a_gpu_give_the_same_weights_within_rounding(world, monkeypatch):
    on_cpu = weights(world, "cpu")

    def as_on_gpu(rows: int, longest: int, *, device: torch.device, **known: int) -> PassLimits:
        return pass_limits(rows, longest, device=GPU, **known)

    monkeypatch.setattr(session, "pass_limits", as_on_gpu)
    as_gpu = weights(world, "gpu")
    torch.testing.assert_close(as_gpu, on_cpu, atol=1e-5, rtol=0)
    assert not torch.equal(as_gpu, on_cpu)


def test_passes_without_gradients_have_fewer_rows_too_after_memory_ran_out(world, monkeypatch):
    """Those of validations, of the outputs of the parent and of the frozen layers."""
    asked: dict[str, set[int]] = {}

    def recorded(name: str, predict: Any) -> Any:
        def record(*given: Any, **options: Any) -> Any:
            asked.setdefault(name, set()).add(options["batch_size"])
            return predict(*given, **options)

        return record

    for module in (validation, distillation):
        monkeypatch.setattr(module, "predict", recorded(module.__name__, module.predict))
    outputs = lower_outputs.Skippable.outputs

    def layers(self: lower_outputs.Skippable, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        asked.setdefault("layers", set()).add(len(inputs["input_ids"]))
        return outputs(self, inputs)

    monkeypatch.setattr(lower_outputs.Skippable, "outputs", layers)
    options = {
        "hyperparameters": {"epochs": 2, "batchSize": 8, "freeze": {"lowerLayers": 1}},
        "earlyStopping": {"everySteps": 5},
        "retention": {"distillation": {}},
    }

    def most(divisor: int) -> dict[str, int]:
        asked.clear()
        world.train(world.run_file(f"of-{divisor}", divisor=divisor, **options))
        shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
        return {name.rpartition(".")[2]: max(rows) for name, rows in asked.items()}

    assert most(1) == {"validation": 8, "distillation": 8, "layers": lower_outputs.BATCH}
    assert most(4) == {"validation": 2, "distillation": 2, "layers": lower_outputs.BATCH // 4}
    assert most(16) == {"validation": 1, "distillation": 1, "layers": lower_outputs.BATCH // 16}
