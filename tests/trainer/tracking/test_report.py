"""What a training reports, and that trackers change neither weights nor verdict."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from springtide_api.contract import RunFile
from springtide_trainer.errors import Interrupted
from springtide_trainer.evaluation.rule_rows import by_name
from springtide_trainer.processes import Processes
from springtide_trainer.stages import train as stage
from springtide_trainer.stages.termination_message import compact
from springtide_trainer.tracking import report
from springtide_trainer.tracking.report import CURVE, Report, parameters, reporting

if TYPE_CHECKING:
    from trainer.training.conftest import World

    from springtide_trainer.tracking.tracker import TrackedRun

OPTIONS = {
    "hyperparameters": {"maxSteps": 6, "batchSize": 8, "learningRate": "1e-3"},
    "earlyStopping": {"everySteps": 3, "patience": 9},
    "checkpoint": {"everySteps": 2, "keep": 9},
}


class Server:
    """A tracker that keeps what it gets from all pods."""

    def __init__(self) -> None:
        self.runs: list[TrackedRun] = []
        self.points: list[tuple[int, str, float]] = []
        self.endings: list[str] = []

    def __call__(self, run: TrackedRun) -> Server:
        self.runs.append(run)
        return self

    def log(self, points):
        self.points += [(each.step, each.name, each.value) for each in points]

    def close(self, ending):
        self.endings.append(ending)

    def curve(self, name: str) -> list[int]:
        return [step for step, of, _ in self.points if of == name]


@pytest.fixture
def server(monkeypatch) -> Server:
    made = Server()
    monkeypatch.setattr(report, "TRACKERS", {"MLflow": made})
    return made


def tracked(world: World, job: str = "g1-train-1", **training) -> RunFile:
    plain = world.run_file(job, **{**OPTIONS, **training}).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    block = {"reportTo": ["MLflow"], "secretName": "tracking-password"}
    return RunFile.model_validate({**plain, "result": "g1-0123abcd-train", "tracking": block})


def test_a_training_reports_loss_learning_rate_and_validation_by_step(world, server):
    made = world.train(tracked(world))
    assert server.curve("train/loss") == [1, 2, 3, 4, 5, 6]
    assert server.curve("validation/log_loss") == [0, 3, 6]
    rates = [value for _, name, value in server.points if name == "train/learning_rate"]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] < rates[1]
    assert [name for step, name, _ in server.points if name.startswith("result/")]
    assert (server.endings, made.warnings) == (["finished"], [])
    (run,) = server.runs
    assert (run.update, run.name, run.title) == ("shop/ranker", "g1-0123abcd", "ranker g1")


def test_weights_and_steps_are_the_same_with_and_without_a_tracker_also_with_a_broken_one(
    world, server, monkeypatch
):
    plain = world.train(world.run_file(**OPTIONS))
    assert plain.artifact.digest == world.train(tracked(world, "g1-train-2")).artifact.digest

    def away(run):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(report, "TRACKERS", {"MLflow": away})
    broken = world.train(tracked(world, "g1-train-3"))
    assert broken.artifact.digest == plain.artifact.digest
    assert broken.warnings == ["MLflow: ConnectionError: no route to host"]


def test_a_resumed_training_says_from_which_step_it_repeats(world, server, monkeypatch):
    saved = stage.fit._save

    def save_and_end(session, step, checks):
        saved(session, step, checks)
        if step == 4:
            raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(stage.fit, "_save", save_and_end)
        with pytest.raises(Interrupted):
            world.train(tracked(world))
    world.train(tracked(world, "g1-train-2"))
    assert [run.first for run in server.runs] == [0, 4]
    assert [run.name for run in server.runs] == ["g1-0123abcd"] * 2
    assert server.curve("train/loss")[-2:] == [5, 6]
    assert server.endings == ["interrupted", "finished"]


def test_a_training_that_fails_is_marked_as_failed(world, server, monkeypatch):
    monkeypatch.setattr(stage, "_interpolate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.train(tracked(world))
    assert server.endings == ["failed"]


def test_only_the_first_of_several_processes_reports(world, server, tmp_path):
    for processes in (Processes(1, 2), Processes(0, 2)):
        with reporting(tracked(world), world.home, tmp_path, leads=processes.leads) as made:
            made.begin(0, 6)
            made.add(1, {"train/loss": 0.5})
    assert server.points == [(1, "train/loss", 0.5)]


def test_a_long_run_has_a_thousand_points_and_numbers_that_are_not_finite_are_left_out(server):
    run = report.TrackedRun("a/b", "g1", "b g1", None, None)
    made = Report(run, {})
    made.begin(0, 250 * CURVE)
    assert not made.due(250)  # no tracker
    made = Report(run, {"MLflow": server}, clock=lambda: 5.0)
    made.begin(0, 250 * CURVE)
    due = [step for step in range(1, 250 * CURVE + 1) if made.due(step)]
    assert (due[:3], len(due)) == ([1, 250, 500], CURVE + 1)
    made.add(3, {"nan": float("nan"), "inf": float("inf"), "one": 1})
    made.end("finished")
    assert server.points == [(3, "one", 1.0)]


def test_no_place_and_no_secret_is_a_parameter(world):
    recipe = tracked(world, retention={"replay": {}}).recipe
    found = parameters(recipe)
    assert found["task"] == "Classification"
    assert found["hyperparameters.learningRate"] == "1e-3"
    assert found["retention.replay.bufferRows"]
    assert "method.type" in found
    text = str(found)
    for hidden in ("file:", "password", "models", "image", "secret"):
        assert hidden not in text.lower()


def test_the_options_of_a_decoder_are_parameters(world):
    model = {"initial": {"uri": "file:///m"}, "task": "CausalLM", "causalLm": {"maxNewTokens": 6}}
    recipe = tracked(world).recipe
    decoder = recipe.model_copy(update={"model": type(recipe.model).model_validate(model)})
    found = parameters(decoder)
    assert (found["task"], found["causalLm.maxNewTokens"]) == ("CausalLM", "6")


def test_numbers_of_the_gate_have_names_and_what_is_undefined_is_left_out(world):
    rule = tracked(world).recipe.gate.rules[0]
    row = (rule.name, 7.5, 7.0, 8.0, None, None, None, -0.5, -0.9, -0.1, 0.2, 0.2, 10, 3)
    candidate, delta = f"gate/{rule.name}/candidate", f"gate/{rule.name}/delta"
    assert by_name(rule, row) == {
        candidate: 7.5,
        f"{candidate}_lower": 7.0,
        f"{candidate}_upper": 8.0,
        delta: -0.5,
        f"{delta}_lower": -0.9,
        f"{delta}_upper": -0.1,
    }


def test_warnings_are_cut_before_anything_that_decides(world, server):
    made = world.train(tracked(world))
    made = made.model_copy(update={"warnings": ["x" * 200] * 3})
    from springtide_api.contract import Result

    whole = Result(job="j", stage="train", number=1, ok=True, train=made)
    assert compact(whole).count(b"x" * 200) == 3
    metrics = {f"validation_of_alpha_{number:_>60}": 0.5 for number in range(40)}
    large = whole.model_copy(update={"train": made.model_copy(update={"metrics": metrics})})
    assert len(compact(large)) <= 4096
    assert b"xxx" not in compact(large)


def test_the_curve_is_collected_while_a_tracker_is_still_being_opened():
    ready = threading.Event()
    kept = Server()

    def slow(run):
        ready.wait(30)
        return kept

    run = report.TrackedRun("a/b", "g1", "b g1", None, None)
    made = Report(run, {"MLflow": slow})
    made.begin(0, 3)
    made.add(1, {"loss": 1.0})
    made.add(2, {"loss": 0.5})
    ready.set()
    made.end("finished")
    assert kept.curve("loss") == [1, 2]
    assert made.warnings == []
