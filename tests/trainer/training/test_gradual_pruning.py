"""Gradual pruning: its schedule, which weights are zero, and what later generations do with it."""

from __future__ import annotations

import shutil
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from trainer.architectures import ARCHITECTURES
from trainer.optimise.test_pruning import NoLayers, a_model

from springtide_api.contract import ArtifactRef
from springtide_api.update.model import GradualPruning as Options
from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Refused
from springtide_trainer.optimise.gradual_pruning import GradualPruning, Schedule
from springtide_trainer.optimise.pruning import linear_weights
from springtide_trainer.storage import local_path, uri_of
from springtide_trainer.training import precision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from springtide_api.contract import TrainOutput

HALF = {"sparsity": "0.5"}
FAST = {"maxSteps": 10, "batchSize": 8, "learningRate": "3e-3"}


@pytest.mark.parametrize("total", [1, 7, 100, 4_000])
def test_the_sparsity_rises_by_the_cubic_schedule_of_the_paper(total):
    options = Options(sparsity="0.8", prune_from="0.1", prune_until="0.7")
    made = Schedule.of(options, total)
    begin, end = total // 10, max(total // 10 + 1, total * 7 // 10)
    for step in range(1, total + 1):
        done = min(1.0, max(0.0, (step - begin) / (end - begin)))
        assert float(made(step)) == pytest.approx(0.8 + (0 - 0.8) * (1 - done) ** 3)
    assert made(end) == made(total) == Fraction(4, 5)
    times = [step for step in range(1, total + 1) if made.due(step)]
    assert times[-1] == end
    assert times[0] > begin
    assert len(times) <= 100
    assert len(times) >= min(end - begin, 40)


def test_after_each_step_the_smallest_weights_are_zero_and_zeros_stay_zero():
    model, rng = a_model("bert"), torch.Generator().manual_seed(7)
    linear = {each.data_ptr() for each in linear_weights(model)}
    other = {n: w for n, w in model.state_dict().items() if w.data_ptr() not in linear}
    made = GradualPruning(
        Options(sparsity="0.6", prune_from="0.2", prune_until="0.8"), model, total=20
    )
    made.begin()
    before = [torch.zeros_like(each, dtype=torch.bool) for each in linear_weights(model)]
    for step in range(1, 21):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=rng), alpha=0.01)
        moved = [each.clone() for each in linear_weights(model)]
        rest = {name: weight.clone() for name, weight in other.items()}
        made.observe(step, 0.0)

        done = Fraction(min(max(step - 4, 0), 12), 12)
        share = Fraction(3, 5) * (1 - (1 - done) ** 3)
        for number, (weight, was) in enumerate(zip(linear_weights(model), moved, strict=True)):
            zero = weight == 0
            assert int(zero.sum()) == int(share * weight.numel())
            assert torch.equal(weight[~zero], was[~zero])
            assert (zero | ~before[number]).all(), "what was zero is zero"
            new = zero & ~before[number]
            if new.any():
                assert was[new].abs().max() <= was[~zero].abs().min()
            assert not torch.signbit(weight[zero]).any()
            before[number] = zero
        assert all(torch.equal(weight, rest[name]) for name, weight in other.items())
    assert made.sparsity == pytest.approx(0.6, abs=1e-3)


def test_a_weight_that_a_step_makes_zero_stays_zero_whether_or_not_the_run_is_resumed_there():
    """A resumed run finds it among the zeros, and so must one that was not interrupted."""
    model = a_model("bert")
    weight = linear_weights(model)[0]

    def begun() -> GradualPruning:
        options = Options(sparsity="0.5", prune_from="0.5", prune_until="0.9")
        made = GradualPruning(options, model, total=20)
        made.begin()
        return made

    whole = begun()
    weight[0, 0] = 0.0
    whole.observe(3, 0.0)
    for each in (whole, begun()):
        weight[0, 0] = 1.0
        each.observe(4, 0.0)
        assert weight[0, 0] == 0


def test_weights_that_are_zero_have_no_part_in_the_norm_by_which_gradients_are_clipped(
    world, monkeypatch
):
    """Nor has the penalty of EWC there: such a weight does not move."""
    kept = {"ewc": {"strength": "10", "rows": 20}}
    options = {"hyperparameters": FAST, "pruning": HALF, "retention": kept}
    first = world.train(world.run_file("first", **options))
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    world.parent = first.artifact
    run = world.run_file("second", **options | {"pruning": {"sparsity": "0.75"}})
    assert run.train is not None
    assert first.fisher is not None
    left = ArtifactRef(uri=uri_of(world.home.artifact(first.fisher)), digest=first.fisher)
    run = run.model_copy(update={"train": run.train.model_copy(update={"fisher": left})})

    clip, seen = precision.clip, []

    def recorded(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
        every = list(parameters)
        given = [each for each in every if each.ndim == 2 and each.grad is not None]
        pruned = [each.grad[each == 0] for each in given]
        seen.append((sum(map(len, pruned)), sum(int((each != 0).sum()) for each in pruned)))
        assert all((each.grad[each != 0] != 0).any() for each in given)
        return clip(every, most)

    monkeypatch.setattr(precision, "clip", recorded)
    made = world.train(run)
    assert made.metrics["ewc_penalty"] > 0
    assert len(seen) == 10
    assert all(zeros > 0 for zeros, _ in seen)
    assert [of_zeros for _, of_zeros in seen] == [0] * 10


def test_a_model_without_linear_layers_below_its_head_is_refused():
    with pytest.raises(Refused, match="NoLayers has no linear layer below its head") as refused:
        GradualPruning(Options(sparsity="0.5"), NoLayers(ARCHITECTURES["bert"]), total=3)
    assert refused.value.failure.field == "spec.training.pruning"


def zeros(made: TrainOutput) -> dict[str, Tensor]:
    """Which weights of each linear layer below the head are zero, from the file."""
    return {
        name: value == 0
        for name, value in weights(made).items()
        if name.endswith("weight") and value.ndim == 2 and "embed" not in name
        if not name.startswith("classifier")
    }


def weights(made: TrainOutput) -> dict[str, Tensor]:
    return load_file(local_path(made.artifact.uri) / "model.safetensors")


def halves(found: dict[str, Tensor]) -> bool:
    return all(int(zero.sum()) == zero.numel() // 2 for zero in found.values())


def test_the_artifact_has_exactly_the_zeros_that_are_asked_for_and_reports_them(world):
    made = world.train(world.run_file(hyperparameters=FAST, pruning=HALF))
    found = zeros(made)
    assert len(found) > 10
    assert halves(found)
    assert made.metrics["sparsity"] == 0.5
    others = {name: each for name, each in weights(made).items() if name not in found}
    assert (others["classifier.weight"] != 0).all()
    scored = load(local_path(made.artifact.uri), made.artifact.digest)
    assert scored.predict([("good shoe", None)]).shape == (1, 2)

    late = world.run_file("late", hyperparameters=FAST, pruning={**HALF, "pruneUntil": "1"})
    plain = world.train(world.run_file("plain", hyperparameters=FAST))
    assert "sparsity" not in plain.metrics
    after = world.train(late)
    assert halves(zeros(after))
    name = next(iter(found))
    kept = ~zeros(after)[name] & ~found[name]
    assert not torch.equal(weights(after)[name][kept], weights(made)[name][kept]), (
        "the others are trained on after the last ones were set to zero"
    )


def test_the_next_generation_keeps_zeros_while_the_field_is_set(world):
    def next_one(job: str, **training: Any) -> TrainOutput:
        shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
        return world.train(world.run_file(job, hyperparameters=FAST, **training))

    first = next_one("first", pruning=HALF)
    world.parent, before = first.artifact, zeros(first)
    same, more = next_one("same", pruning=HALF), next_one("more", pruning={"sparsity": "0.75"})
    less, dense = next_one("less", pruning={"sparsity": "0.25"}), next_one("dense")
    for name, zero in before.items():
        assert torch.equal(zeros(same)[name], zero)
        assert torch.equal(zeros(less)[name], zero), "a sparsity never falls while it is set"
        assert int(zeros(more)[name].sum()) == zero.numel() * 3 // 4
        assert (zeros(more)[name] | ~zero).all()
        assert zeros(dense)[name].float().mean() < 0.1, "without the field they are trained"
    assert (same.metrics["sparsity"], less.metrics["sparsity"]) == (0.5, 0.5)
    assert same.artifact.digest != first.artifact.digest


@pytest.mark.parametrize("step", [3, 9], ids=["while weights are pruned", "after the last ones"])
def test_a_resumed_training_gives_the_same_weights(world, step):
    options = {
        "hyperparameters": {**FAST, "dropout": "0.1"},
        "pruning": HALF,
        "checkpoint": {"everySteps": 3, "keep": 9},
    }
    whole = world.train(world.run_file("whole", **options))
    for folder in world.home.checkpoints(1).iterdir():
        if folder.name != f"step-{step:09d}":
            shutil.rmtree(folder)
    resumed = world.train(world.run_file("resumed", **options))
    assert resumed.artifact.digest == whole.artifact.digest
    other = world.train(world.run_file("other", **options | {"pruning": {"sparsity": "0.6"}}))
    assert other.metrics["sparsity"] == pytest.approx(0.6, abs=1e-3)


def test_an_average_has_the_zeros_of_the_last_step(world):
    averaged = {"averaging": {"ema": "0.9"}}
    run = world.run_file(hyperparameters=FAST, pruning=HALF, robustness=averaged)
    assert halves(zeros(world.train(run)))


def test_halved_passes_give_the_same_weights_within_rounding(world):
    tuned = {"maxSteps": 8, "batchSize": 8, "gradientAccumulation": 2, "precision": "FP32"}
    tuned |= {"optimizer": "SGD", "learningRate": "0.1"}
    one, other = (
        weights(
            world.train(world.run_file(f"of-{of}", divisor=of, hyperparameters=tuned, pruning=HALF))
        )
        for of in (1, 8)
    )
    for name in one:
        torch.testing.assert_close(other[name], one[name], atol=1e-5, rtol=0)
