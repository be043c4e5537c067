"""Experiment trackers: pods report where the spec says now, and no decision depends on it."""

from __future__ import annotations

from lifecycle import answers
from lifecycle.declared import SPEC
from lifecycle.world import World, with_generation_one

from springtide_operator.lifecycle.jobs.run_files import result_prefix
from springtide_operator.lifecycle.state.recipe import recipe, recipe_hash
from springtide_trainer.storage import Home
from springtide_trainer.tracking.report import _tracked

TRACKING = {"reportTo": ["TensorBoard", "MLflow"], "secretName": "trackers"}


def tracked() -> World:
    world = World(spec={**SPEC, "tracking": TRACKING})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    return world


def test_training_and_evaluation_know_the_trackers_and_other_stages_do_not():
    world = tracked()
    assert world.generation(1).status.outcome == "Live"
    runs = [start.run for start in world.runs.values()]
    assert {run.stage for run in runs if run.tracking} == {"train", "evaluate"}
    assert {run.stage for run in runs if not run.tracking} >= {"import", "probe"}
    assert runs[-1].recipe.plain().get("tracking") is None


def test_training_and_evaluation_of_a_generation_report_to_one_run_of_the_tracker(tmp_path):
    world = tracked()
    world.error = 0.02  # of the second generation, which waits for a longer holdout
    world.aucs["2025-03"] = (0.61, 0.60)
    for month in ("2025-03", "2025-04"):
        world.months.append(month)
        world.rounds(8)
    assert len(world.generation(2).status.evaluation.holdouts) == 2
    runs = [start.run for start in world.runs.values() if start.run.tracking]
    stages = [(run.number, run.stage) for run in runs]
    assert stages.count((2, "evaluate")) == 2
    names = {(run.number, _tracked(run, Home(tmp_path), tmp_path).name) for run in runs}
    assert names == {(n, result_prefix(world.generation(n))) for n, _ in stages}


def test_trackers_make_no_other_recipe_and_no_other_generation():
    plain, other = with_generation_one(), tracked()
    assert recipe_hash(recipe(plain.seen())) == recipe_hash(recipe(other.seen()))
    assert plain.generation(1).spec.recipe_hash == other.generation(1).spec.recipe_hash


def test_what_a_tracker_did_not_get_is_a_warning_event_and_the_generation_is_promoted(monkeypatch):
    answered = answers._answer

    def with_warning(world, start):
        result = answered(world, start)
        if result.train is None:
            return result
        lost = ["MLflow: ConnectionError: no route to host", "WandB: no answer in time"]
        made = result.train.model_copy(update={"warnings": lost})
        return result.model_copy(update={"train": made})

    monkeypatch.setattr(answers, "_answer", with_warning)
    world = tracked()
    assert world.generation(1).status.outcome == "Live"
    assert world.events.count("TrackingFailed") == 1
    message = "MLflow: ConnectionError: no route to host; WandB: no answer in time"
    assert message in world.event_messages
