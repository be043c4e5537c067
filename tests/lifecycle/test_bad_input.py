"""Input that a trainer refuses: reported with its field, nothing lost, used once it is fixed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import SPEC
from lifecycle.world import World, with_generation_one

from springtide_api.contract import Failure, Result
from springtide_operator.lifecycle.state.observed import ObservedPod, ObservedTarget

UNKNOWN = Failure(
    reason="UnknownLabel",
    message="2 of 40 train rows have a label that is not one of the 2 model.labels; fix them",
    field="data.source.columns.label",
)
FULL = Failure(
    reason="DiskFull",
    message="no space left on the storage, 0 of 1,048,576 bytes are free; enlarge the claim",
    field="storage.volume.claimName",
)


def refuse(world: World, name: str, failure: Failure, code: int) -> None:
    """Let a Job end as a trainer ends that refuses its input."""
    job = world.jobs[name]
    said = Result(job=name, stage=job.stage, number=job.number, ok=False, failure=failure)
    pod = ObservedPod(f"{name}-x", world._uid(), world.now, exit_code=code)
    world.jobs[name] = replace(job, failed=True, finished=world.now, result=said, pods=(pod,))
    world.settle()


def the_job(world: World, stage: str) -> str:
    """Wait for a Job of this stage, while others end as they should."""
    for _ in range(12):
        if found := [name for name, job in world.jobs.items() if job.stage == stage]:
            return found[0]
        world.round()
    raise AssertionError(f"no {stage} Job came")


def test_data_that_a_probe_refuses_are_reported_with_the_field_and_probed_again() -> None:
    world = with_generation_one()
    world.edit(trigger={"onData": {"pollInterval": "30m"}})
    world.round()
    live, cursor = world.update.status.live, world.update.status.cursor.trained_through
    served = list(world.served)
    world.months.append("2025-03")
    world.ask("run@1")
    world.settle()
    refuse(world, the_job(world, "probe"), UNKNOWN, 3)

    said = f"spec.data.source.columns.label: {UNKNOWN.message}"
    data = next(c for c in world.update.status.conditions if c.type == "DataReady")
    assert (data.status, data.reason, data.message) == ("False", "UnknownLabel", said)
    assert said in world.update.status.progress.waiting_for
    assert "UnknownLabel" in world.events
    assert world.served == served
    assert world.update.status.live == live
    assert world.update.status.cursor.trained_through == cursor

    world.round(minutes=70)
    world.rounds(4)
    assert world.update.status.live.number == 2


@pytest.mark.survives(
    "Data",
    "the storage stays full for a while",
    "training is repeated with growing pauses, up to training.limits.maxAttempts, without new "
    "data or a request",
)
def test_a_full_disk_is_retried_and_succeeds_once_there_is_room() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    refuse(world, the_job(world, "train"), FULL, 75)
    waiting = world.update.status.progress.waiting_for
    assert waiting.startswith("spec.storage.volume.claimName: no space left on the storage, 0 of")
    again = world.now + timedelta(seconds=10)
    assert waiting.endswith(f"; the next attempt starts at {again:%H:%M:%S} UTC")
    before = world.update.status
    world.now += timedelta(seconds=2)
    world.settle()
    assert world.update.status == before  # the message counts no seconds down

    world.rounds(8)
    assert world.generation(2).status.training.attempt == 2
    assert world.generation(2).status.training.last_failure.startswith(
        "spec.storage.volume.claimName: no space left on the storage, 0 of 1,048,576 bytes"
    )
    assert world.update.status.live.number == 2


def test_a_disk_that_stays_full_fails_the_run_when_its_attempts_are_used() -> None:
    world = with_generation_one()
    served = list(world.served)
    world.months.append("2025-03")
    for _ in range(3):
        refuse(world, the_job(world, "train"), FULL, 75)
        world.now += timedelta(minutes=6)
        world.settle()
    second = world.generation(2)
    assert (second.status.verdict, second.status.reason) == ("Failed", "DiskFull")
    assert second.status.message.endswith(
        "enlarge the claim; 3 of 3 attempts used (training.limits.maxAttempts)"
    )
    assert world.served == served

    world.ask("retry@1")
    world.rounds(6)
    assert world.update.status.live.number == 3


def test_a_full_disk_at_the_import_needs_no_user() -> None:
    world = World()
    world.settle()
    refuse(world, the_job(world, "import"), FULL, 75)
    world.rounds(4)
    assert world.generation(0).status.verdict == "Imported"


def test_an_unsafe_initial_model_blocks_with_its_field_until_it_is_fixed_and_retried() -> None:
    world = World()
    world.settle()
    pickled = Failure(
        reason="UnsafeArtifact",
        message="/models/minilm has its weights only in pytorch_model.bin, a pickle; convert it",
        field="spec.model.initial.uri",
    )
    refuse(world, the_job(world, "import"), pickled, 3)
    stalled = next(c for c in world.update.status.conditions if c.type == "Stalled")
    assert stalled.reason == "ImportFailed"
    assert stalled.message == (
        "shop-g0 failed; fix the cause and annotate springtide.dev/request=retry@<token>; "
        "spec.model.initial.uri: /models/minilm has its weights only in pytorch_model.bin, a "
        "pickle; convert it"
    )
    assert world.served == []
    assert len([name for name in world.job_names_ever if "-import-" in name]) == 1

    world.ask("retry@1")
    world.rounds(4)
    assert world.generation(1).status.verdict == "Imported"
    assert not any(c.type == "Stalled" for c in world.update.status.conditions)


def test_a_probe_gets_every_folder_of_rows_that_a_generation_refers_to() -> None:
    world = with_generation_one()
    world.error = 0.02
    world.aucs = {"2025-03": (0.61, 0.60), "2025-04": (0.61, 0.60)}
    world.months.append("2025-03")
    world.rounds(6)
    world.months.append("2025-04")
    world.rounds(6)
    assert len(world.generation(2).status.evaluation.holdouts) == 2
    world.ask("run@1")
    world.settle()
    asked = world.runs[the_job(world, "probe")].run.probe

    generations = world.generations.values()
    named = {g.spec.data.manifest for g in generations if g.spec.data}
    named |= {uri for g in generations if g.spec.data for uri in g.spec.data.historical}
    holdouts = [g.status.evaluation.holdouts for g in generations if g.status.evaluation]
    named |= {holdout.manifest for each in holdouts for holdout in each}
    assert len(named) >= 3
    assert set(asked.referenced) == {uri.rsplit("/", 1)[1] for uri in named}


def test_a_probe_gets_the_rows_of_a_result_that_is_not_consumed_yet() -> None:
    """The operator was down; a request starts another probe before the result is consumed."""
    world = with_generation_one()
    world.months.append("2025-03")
    world.ask("run@1")
    world.settle()
    first = the_job(world, "probe")
    world.complete_jobs()
    window = world.jobs[first].result.probe.window
    world.ask("run@2")
    world.step()
    second = next(run for name, run in world.runs.items() if run.request == "run@2")
    assert window.manifest.rsplit("/", 1)[1] in second.run.probe.referenced


LONGEST = "d" * 253


def test_a_status_holds_the_longest_name_of_a_deployment() -> None:
    world = World(spec={**SPEC, "rollout": of_one_target(LONGEST)})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    assert [target.name for target in world.update.status.targets] == [LONGEST]
    assert world.update.status.live


def test_a_status_holds_the_longest_name_of_a_deployment_that_is_missing() -> None:
    world = World(spec={**SPEC, "rollout": of_one_target(LONGEST)})
    world.targets[LONGEST] = ObservedTarget(target=world.targets[LONGEST].target)
    world.settle()
    assert LONGEST in world.update.status.progress.waiting_for


def of_one_target(name: str) -> dict:
    return {"targets": [{"targetRef": {"name": name}, "container": "server"}], "deadline": "10m"}
