"""EWC: the penalty by hand, once for a step, resumed, over generations, and what it holds."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from trainer.training.conftest import LABELS, World, freeze, imported, publish, toy_rows
from trainer.training.processes.group import Case, Found, together, train
from trainer.training.processes.test_gradients import difference, update
from trainer.training.test_multi_label import SEVERAL, labelled
from trainer.training.test_ranking import lists
from trainer.training.test_regression import REGRESSION, priced
from trainer.training.test_replay_of_tasks import RANKING, run_of, world_of

from springtide_api.contract import ArtifactRef
from springtide_trainer.stages import train as stage
from springtide_trainer.storage import Home, local_path, uri_of
from springtide_trainer.training.precision import Precision
from springtide_trainer.training.retention import fisher_information
from springtide_trainer.training.retention.penalty import Penalty

if TYPE_CHECKING:
    from springtide_api.contract import RunFile, TrainOutput

HELD = {"ewc": {"strength": "10", "rows": 20}}
SGD = {"batchSize": 8, "gradientAccumulation": 4, "optimizer": "SGD", "learningRate": "0.1"}
FP32 = {**SGD, "precision": "FP32"}
CPU = torch.device("cpu")


def unscaled(gradient: torch.Tensor) -> torch.Tensor:
    return gradient


def test_penalty_and_gradients_are_those_of_the_paper():
    """Kirkpatrick et al. 2017, equation 3: lambda / 2 * F * (weight - before)^2."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        model.bias.zero_()
    values = {"weight": torch.tensor([[0.5, 1.0]]), "of another model": torch.ones(9)}
    held = Penalty(model, values, strength=10.0, scale=unscaled)
    with torch.no_grad():
        model.weight.add_(torch.tensor([[0.2, -0.1], [7.0, 7.0]]))  # the second output is new
        model.bias.add_(5.0)  # nothing is known of it
    model(torch.ones(1, 2)).sum().backward()
    before = [each.grad.clone() for each in model.parameters()]

    found = held()
    assert found.item() == pytest.approx(10 / 2 * (0.5 * 0.2**2 + 1.0 * 0.1**2))
    added = model.weight.grad - before[0]
    torch.testing.assert_close(added, torch.tensor([[10 * 0.5 * 0.2, -10 * 0.1], [0.0, 0.0]]))
    assert torch.equal(model.bias.grad, before[1])
    assert held.value().item() == pytest.approx(found.item())


@pytest.mark.parametrize("passes", [1, 3])
def test_gradients_are_those_that_autograd_finds_for_the_penalty(passes):
    """Beside those of all passes of a step; some outputs are new, and some weights free."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.LayerNorm(30), nn.Tanh(), nn.Linear(30, 5))
    start = {name: each.detach().clone() for name, each in model.named_parameters()}
    values = {name: torch.rand_like(each) for name, each in start.items() if name != "1.bias"}
    values["3.weight"], values["3.bias"] = values["3.weight"][:3], values["3.bias"][:3]
    held = Penalty(model, values, strength=7.0, scale=unscaled)
    rows = torch.randn(passes, 8, 40)
    with torch.no_grad():
        for each in model.parameters():
            each.add_(torch.randn_like(each), alpha=0.1)

    losses = torch.stack([model(each).square().mean() for each in rows]).sum()
    penalty = torch.stack(
        [
            (known * (each[: len(known)] - start[name][: len(known)]).square()).sum()
            for name, each in model.named_parameters()
            if (known := values.get(name)) is not None
        ]
    ).sum()
    wanted = torch.autograd.grad(losses + 7.0 / 2 * penalty, [*model.parameters()])
    for each in rows:
        model(each).square().mean().backward()
    assert held().item() == pytest.approx(7.0 / 2 * penalty.item(), rel=1e-6)
    for each, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(each.grad, gradient, atol=1e-6, rtol=1e-6)


def test_a_process_that_does_not_lead_adds_the_gradients_and_reports_nothing():
    model = nn.Linear(1, 1)
    values = {"weight": torch.ones(1, 1)}
    held = Penalty(model, values, strength=2.0, scale=unscaled, counted=False)
    with torch.no_grad():
        model.weight.add_(3.0)
    model(torch.zeros(1, 1)).sum().backward()
    assert held().item() == 0.0
    assert model.weight.grad.item() == pytest.approx(6.0)


def test_a_weight_without_a_gradient_gets_none():
    model = nn.Linear(1, 1)
    held = Penalty(model, {"weight": torch.ones(1, 1)}, strength=2.0, scale=unscaled)
    held()
    assert model.weight.grad is None


def test_gradients_in_fp16_are_scaled_as_those_of_the_loss():
    """The optimizer's step divides all of them by the scale."""
    chosen = Precision("FP16", CPU)
    model = nn.Linear(1, 1)
    held = Penalty(model, {"weight": torch.ones(1, 1)}, strength=2.0, scale=chosen.scaler.scale)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    start = model.weight.item()
    with torch.no_grad():
        model.weight.add_(0.25)
    chosen.backward(0.0 * model(torch.ones(1, 1)).sum())
    held()
    chosen.step(optimizer, model.parameters(), 99.0)
    assert model.weight.item() == pytest.approx(start + 0.25 - 0.5)


def with_train(run: RunFile, **changes: Any) -> RunFile:
    assert run.train
    return run.model_copy(update={"train": run.train.model_copy(update=changes)})


def fisher_of(world: World, made: TrainOutput) -> ArtifactRef:
    assert made.fisher
    return ArtifactRef(uri=uri_of(world.home.artifact(made.fisher)), digest=made.fisher)


def trained(world: World, run: RunFile) -> TrainOutput:
    made = world.train(run)
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    return made


@pytest.fixture
def second(world: World) -> tuple[World, ArtifactRef]:
    """A world whose live generation left its Fisher information, and rows of a later window."""
    first = trained(world, world.run_file(hyperparameters=FP32, retention=HELD))
    world.parent = first.artifact
    world.data = freeze(world.home, toy_rows(240, seed=1))
    return world, fisher_of(world, first)


def weights(made: Any) -> torch.Tensor:
    values = load_file(local_path(made.uri) / "model.safetensors").values()
    return torch.cat([value.flatten() for value in values])


def test_the_first_run_has_no_penalty_and_leaves_what_the_next_one_takes(world):
    plain = trained(world, world.run_file(hyperparameters=FP32))
    first = trained(world, world.run_file("g1-train-2", hyperparameters=FP32, retention=HELD))

    assert first.artifact.digest == plain.artifact.digest
    assert plain.fisher is None
    assert "ewc_penalty" not in first.metrics
    values = fisher_information.read(fisher_of(world, first), of=first.artifact.digest)
    frozen = [name for name in values if "word_embeddings" in name]
    assert not frozen
    assert all((each >= 0).all() for each in values.values())
    assert sum(float(each.sum()) for each in values.values()) > 0


def test_a_run_is_held_and_leaves_the_sum_of_both(second):
    world, fisher = second
    free = trained(world, world.run_file("free", hyperparameters=FP32))
    made = {
        strength: trained(
            world,
            with_train(
                world.run_file(
                    f"held-{strength}",
                    hyperparameters=FP32,
                    retention={"ewc": {"strength": strength, "rows": 20, "gamma": "0.5"}},
                ),
                fisher=fisher,
            ),
        )
        for strength in ("1e-9", "10")
    }
    assert made["10"].metrics["ewc_penalty"] > 0
    torch.testing.assert_close(weights(made["1e-9"].artifact), weights(free.artifact))
    held = made["10"]
    before = fisher_information.read(fisher, of=world.parent.digest)
    after = load_file(local_path(held.artifact.uri) / "model.safetensors")
    away = load_file(local_path(free.artifact.uri) / "model.safetensors")
    start = load_file(local_path(world.parent.uri) / "model.safetensors")

    def cost(of: dict[str, torch.Tensor]) -> float:
        return sum(float((f * (of[n] - start[n]).square()).sum()) for n, f in before.items())

    assert cost(after) < cost(away) / 2
    both = fisher_information.read(fisher_of(world, held), of=held.artifact.digest)
    own = {name: both[name] - 0.5 * before[name] for name in both}
    assert min(float(each.min()) for each in own.values()) > -1e-6
    assert max(float(each.max()) for each in own.values()) > 0


def test_halved_passes_give_the_same_weights_within_rounding(second):
    """The penalty counts once for a step, whatever the number of its passes."""
    world, fisher = second
    strong = {"ewc": {"strength": "20", "rows": 20}}
    whole, halved = (
        trained(
            world,
            with_train(
                world.run_file(
                    f"of-{divisor}", divisor=divisor, hyperparameters=FP32, retention=strong
                ),
                fisher=fisher,
            ),
        )
        for divisor in (1, 8)
    )
    torch.testing.assert_close(weights(halved.artifact), weights(whole.artifact), atol=1e-5, rtol=0)
    assert halved.metrics["ewc_penalty"] == pytest.approx(whole.metrics["ewc_penalty"], rel=1e-3)
    assert halved.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-4)


@pytest.mark.parametrize("averaged", [False, True], ids=["last weights", "averaged"])
def test_a_resumed_training_gives_the_same_weights_and_fisher_information(second, averaged):
    world, fisher = second
    more: dict[str, Any] = {
        "hyperparameters": {**SGD, "dropout": "0.1"},
        "checkpoint": {"everySteps": 4},
        "retention": HELD,
    }
    if averaged:
        more["robustness"] = {"averaging": {"ema": "0.9"}}
    whole = world.train(with_train(world.run_file("whole", **more), fisher=fisher))
    (first, *later) = sorted(world.home.checkpoints(1).iterdir())
    assert first.name == "step-000000004"
    for each in later:
        shutil.rmtree(each)
    resumed = world.train(with_train(world.run_file("resumed", **more), fisher=fisher))
    assert resumed.artifact.digest == whole.artifact.digest
    assert resumed.fisher == whole.fisher


def test_a_checkpoint_of_other_fisher_information_is_not_used(second, caplog):
    world, fisher = second
    options = {"hyperparameters": SGD, "checkpoint": {"everySteps": 2}, "retention": HELD}
    world.train(with_train(world.run_file("one", **options), fisher=fisher))
    with caplog.at_level("INFO"):
        world.train(world.run_file("other", **options))
    assert "checkpoint belongs to another run" in caplog.text


@pytest.mark.survives(
    "Model",
    "a pod ends between the commits of weights, Fisher information and result",
    "the next attempt commits the same digests; nothing is left twice",
)
@pytest.mark.parametrize("when", ["before it", "after it"])
def test_an_attempt_after_a_crash_leaves_the_same(second, monkeypatch, when):
    world, fisher = second
    options = {"hyperparameters": SGD, "retention": HELD}
    whole = trained(world, with_train(world.run_file("whole", **options), fisher=fisher))
    assert whole.fisher
    for digest in (whole.artifact.digest, whole.fisher):
        shutil.rmtree(world.home.artifact(digest))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    place = {"before it": (fisher_information, "commit"), "after it": (stage, "TrainOutput")}
    with monkeypatch.context() as patched:
        patched.setattr(*place[when], die)
        with pytest.raises(KeyboardInterrupt):
            world.train(with_train(world.run_file("killed", **options), fisher=fisher))
    before = {each.name for each in (world.home.path / "artifacts").iterdir()}
    again = world.train(with_train(world.run_file("again", **options), fisher=fisher))
    assert (again.artifact.digest, again.fisher) == (whole.artifact.digest, whole.fisher)
    after = {each.name for each in (world.home.path / "artifacts").iterdir()}
    assert before <= after
    assert len(after - before) == (when == "before it")


TASKS = {
    "Regression": (REGRESSION, lambda: priced(toy_rows(80))),
    "Ranking": (RANKING, lambda: lists(30)),
    "several labels": (SEVERAL, lambda: labelled(toy_rows(80), dressed=False)),
}


@pytest.mark.parametrize("name", TASKS)
def test_each_task_leaves_and_takes_its_fisher_information(tmp_path, name):
    model, rows = TASKS[name]
    world = world_of(tmp_path, model, rows())
    first = trained(world, run_of(world, "g1-train-1", training={"retention": HELD}))
    world.parent = first.artifact
    run = run_of(world, "g2-train-1", training={"retention": HELD})
    made = trained(world, with_train(run, fisher=fisher_of(world, first)))
    assert made.metrics["ewc_penalty"] > 0


def test_appended_labels_are_free(second, freeze_rows, recipe_with):
    world, fisher = second
    rows = {"text": ["good", "bad"] * 16, "label": ["maybe", "no"] * 16}
    rows["entity"] = [str(number) for number in range(32)]
    data, labels = freeze_rows(world.home, rows), [*LABELS, "maybe"]
    run = world.run_file(hyperparameters={"maxSteps": 4}, retention=HELD)
    made = world.train(with_train(recipe_with(run, labels, data), fisher=fisher))
    grown = fisher_information.read(fisher_of(world, made), of=made.artifact.digest)
    assert grown["classifier.weight"].shape[0] == 3


def test_two_processes_learn_what_one_learns(second, tmp_path):
    world, fisher = second
    home = Home(tmp_path / "models" / "shop" / "ranker")
    rows = freeze(home, toy_rows(60, seed=1))
    small = World(home, imported(publish(tmp_path / "small"), home, LABELS), rows)
    small.parent = world.parent
    steps = {"batchSize": 19, "optimizer": "SGD", "learningRate": "0.1", "precision": "FP32"}
    strong = {"ewc": {"strength": "20", "rows": 20}}

    def case(name: str) -> Case:
        run = small.run_file(f"g1-{name}-1", divisor=3, hyperparameters=steps, retention=strong)
        return Case(name, with_train(run, checkpoints=str(tmp_path / name), fisher=fisher))

    (tmp_path / "one").mkdir()
    one = train(case("one"), tmp_path / "one")
    several: Found = together([case("two")], 2, tmp_path / "run")["two"]
    assert one.measured["ewc_penalty"] > 0
    assert difference(update(several), update(one)) < 1e-3
    for name in ("loss", "ewc_penalty"):
        assert several.measured[name] == pytest.approx(one.measured[name], rel=1e-3)
