"""Replay of each task: groups stay whole, a number has no class, a row counts for each label."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trainer.training.conftest import World, freeze, imported, publish, toy_rows
from trainer.training.test_multi_label import SEVERAL, labelled
from trainer.training.test_ranking import lists, ranking_run
from trainer.training.test_regression import REGRESSION, priced

from springtide_api.contract import RunFile
from springtide_trainer.data.snapshots import next_buffer, replay_buffer
from springtide_trainer.storage import Home, local_path
from springtide_trainer.training.rows import training_rows

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import TrainOutput
    from springtide_api.generation.spec import ReplayBuffer

SHORT = {"maxSteps": 4, "batchSize": 8, "learningRate": "1e-3"}
RANKING = {
    "task": "Ranking",
    "ranking": {"gains": {"irrelevant": "0", "partial": "1", "exact": "3"}},
}


def world_of(tmp_path: Path, model: dict[str, Any], rows: dict[str, list[Any]]) -> World:
    home = Home(tmp_path / "models" / "shop" / "ranker")
    parent = imported(publish(tmp_path / "published"), home, model=model)
    return World(home, parent, freeze(home, rows), model)


def run_of(
    world: World,
    job: str,
    buffer: ReplayBuffer | None = None,
    *,
    quarantined: tuple[str, ...] = (),
    weighted: bool = False,
    ranking: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **replay: Any,
) -> RunFile:
    options = {"hyperparameters": SHORT, "retention": {"replay": replay}, **(training or {})}
    model = world.model
    if model is RANKING:
        world.model = None
    run = world.run_file(job, **options)
    world.model = model
    if model is RANKING:
        run = ranking_run(run, ranking or {})
    plain = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["train"]["quarantined"] = list(quarantined)
    if buffer:
        plain["train"]["buffer"] = buffer.plain()
    if weighted:
        plain["recipe"]["data"]["source"]["columns"]["weight"] = "trust"
    return RunFile.model_validate(plain)


def trained(world: World, run: RunFile) -> TrainOutput:
    made = world.train(run)
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    return made


def rows_of(buffer: ReplayBuffer) -> pa.Table:
    return pq.read_table(local_path(buffer.uri) / replay_buffer.ROWS)


def sizes(groups: list[str]) -> Counter[str]:
    return Counter(groups)


def loaded(world: World, run: RunFile, tmp_path: Path) -> training_rows.TrainingRows:
    held = replay_buffer.read(run.train.buffer, run.recipe, run.train.quarantined)
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return training_rows.load(
        *world.data,
        run.recipe,
        parent=local_path(world.parent.uri),
        scratch=tmp_path / "scratch",
        held=held,
    )


def test_groups_are_kept_and_replayed_whole_and_apart_from_new_ones_of_the_same_name(tmp_path):
    rows = lists(40)
    world = world_of(tmp_path, RANKING, rows)
    first = trained(world, run_of(world, "g1-train-1", bufferRows=60, rowsPerClass=3))
    held = sizes(rows_of(first.buffer)["group"].to_pylist())
    assert sum(held.values()) <= 60
    assert held == {group: sizes(rows["group"])[group] for group in held}

    world.data = freeze(world.home, lists(40, seed=5))  # the same names, other lists
    run = run_of(world, "g2-train-1", first.buffer, ratio="0.2", bufferRows=60, rowsPerClass=3)
    found = loaded(world, run, tmp_path)
    units = found.units.sizes(np.flatnonzero(found.replayed_units))
    replayed = found.examples.groups[found.first_replayed :]
    assert found.replayed.rows == len(replayed) > 0
    assert replayed.min() == found.examples.groups[: found.first_replayed].max() + 1
    assert sorted(units.tolist()) == sorted(
        n
        for code, n in Counter(replayed.tolist()).items()
        if len(set(found.examples.labels[found.examples.groups == code].tolist())) > 1
    )
    second = trained(world, run)
    names = rows_of(second.buffer)["group"].to_pylist()
    assert sizes(names) == {
        group: sizes(lists(40, seed=5)["group"])[group] for group in sizes(names)
    }


def test_each_gain_has_its_floor_of_rows_and_the_report_counts_labels(tmp_path):
    world = world_of(tmp_path, RANKING, lists(60))
    first = trained(world, run_of(world, "g1-train-1", rowsPerClass=5))
    world.data = freeze(world.home, lists(40, seed=5))
    second = trained(world, run_of(world, "g2-train-1", first.buffer, ratio="0", rowsPerClass=5))
    assert second.replay.message == ""
    assert set(second.replay.classes) == {"irrelevant", "partial", "exact"}
    assert min(second.replay.classes.values()) >= 5
    assert sum(second.replay.classes.values()) == second.replay.rows


def test_rows_of_weight_0_stay_in_a_weighted_group_and_groups_without_weight_are_left_out(tmp_path):
    rows = lists(30)
    first_of = {group: rows["group"].index(group) for group in rows["group"]}
    rows["weight"] = [
        0.0 if group in {"q1", "q2"} or number == first_of[group] else 2.0
        for number, group in enumerate(rows["group"])
    ]
    world = world_of(tmp_path, RANKING, rows)
    made = trained(world, run_of(world, "g1-train-1", weighted=True))
    held = sizes(rows_of(made.buffer)["group"].to_pylist())
    assert held == {g: n for g, n in sizes(rows["group"]).items() if g not in {"q1", "q2"}}
    again = run_of(world, "g2-train-1", made.buffer, weighted=True, ratio="1")
    found = loaded(world, again, tmp_path)
    assert len(set(found.examples.weights[found.first_replayed :].tolist())) == 1
    old = found.units.mean(found.examples.weights)[~found.replayed_units].mean()
    assert found.examples.weights[-1] == pytest.approx(old, rel=0.02)


def test_a_group_with_a_row_of_a_quarantined_partition_is_left_out_whole_and_reported(tmp_path):
    rows = lists(30)
    world = world_of(tmp_path, RANKING, rows)
    first = trained(world, run_of(world, "g1-train-1"))
    run = run_of(world, "g2-train-1", first.buffer)
    table = rows_of(first.buffer)
    times = table["timestamp"].cast(pa.int64()).to_numpy().copy()
    moved = table["group"].to_pylist().index("q7")
    times[moved] += 31 * 86_400 * 1_000_000  # its first row is of April
    changed = table.set_column(
        table.column_names.index("timestamp"),
        "timestamp",
        pa.array(times).cast(table.schema.field("timestamp").type),
    )
    with world.home.tmp("g1-train-2", "pod") as tmp:
        left = replay_buffer.commit(
            next_buffer.Sample(changed), run.recipe, world.home, tmp / "buffer"
        )
    held = replay_buffer.read(left, run.recipe, ["2026-04"])
    assert sizes(held.table["group"].to_pylist()) == {
        group: n for group, n in sizes(rows["group"]).items() if group != "q7"
    }
    asked = run_of(world, "g2-train-2", left, quarantined=("2026-04",), ratio="0.1")
    message = trained(world, asked).replay.message
    assert message == (
        "1 groups have rows of quarantined partitions or reserved entities and are left out"
    )


def test_a_group_that_is_larger_than_the_maximum_since_is_not_replayed(tmp_path):
    world = world_of(tmp_path, RANKING, lists(30))
    first = trained(world, run_of(world, "g1-train-1"))
    run = run_of(world, "g2-train-1", first.buffer, ranking={"maxGroupRows": 4})
    held = sizes(replay_buffer.read(first.buffer, run.recipe, []).table["group"].to_pylist())
    assert held
    assert max(held.values()) <= 4


def test_a_resumed_ranking_with_replay_has_equal_weights(tmp_path, monkeypatch):
    world = world_of(tmp_path, RANKING, lists(40))
    first = trained(world, run_of(world, "g1-train-1"))
    world.data = freeze(world.home, lists(40, seed=5))
    training = {
        "hyperparameters": {**SHORT, "maxSteps": 10, "dropout": "0.1"},
        "earlyStopping": {"everySteps": 3, "patience": 9},
        "checkpoint": {"everySteps": 4, "keep": 9},
    }
    whole = trained(world, run_of(world, "g2-train-1", first.buffer, training=training))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(next_buffer, "build", die)
        with pytest.raises(KeyboardInterrupt):
            world.train(run_of(world, "g2-train-2", first.buffer, training=training))
    for newer in sorted(world.home.checkpoints(1).iterdir())[1:]:
        shutil.rmtree(newer)
    resumed = world.train(run_of(world, "g2-train-3", first.buffer, training=training))
    assert resumed.artifact.digest == whole.artifact.digest
    assert resumed.buffer == whole.buffer


def test_numbers_are_replayed_by_ratio_alone(tmp_path):
    world = world_of(tmp_path, REGRESSION, priced(toy_rows(120)))
    first = trained(world, run_of(world, "g1-train-1", bufferRows=50))
    assert first.buffer.rows == 50
    world.parent, world.data = first.artifact, freeze(world.home, priced(toy_rows(100, 1), more=9))
    second = trained(world, run_of(world, "g2-train-1", first.buffer, ratio="0.3", bufferRows=50))
    assert (second.replay.rows, second.replay.classes, second.replay.message) == (30, {}, "")
    assert pa.types.is_floating(rows_of(second.buffer)["label"].type)
    assert {price > 240 for price in rows_of(second.buffer)["label"].to_pylist()} == {True, False}


def test_a_row_with_several_labels_counts_for_each_and_appended_labels_join(tmp_path):
    rows = labelled(toy_rows(160), dressed=False)
    world = world_of(tmp_path, SEVERAL, rows)
    first = trained(world, run_of(world, "g1-train-1", rowsPerClass=6, bufferRows=40))
    labels = rows_of(first.buffer)["label"].to_pylist()
    assert all(sum(label[n] == "1" for label in labels) >= 6 for n in (0, 1))

    world.parent = first.artifact
    world.model = SEVERAL | {"labels": ["kind", "coloured", "dressed"]}
    world.data = freeze(world.home, labelled(toy_rows(80, seed=1), dressed=True))
    second = trained(
        world, run_of(world, "g2-train-1", first.buffer, ratio="0", rowsPerClass=6, bufferRows=40)
    )
    assert set(second.replay.classes) == {"kind", "coloured", "dressed"}
    assert second.replay.classes["dressed"] == 0  # older rows do not know it
    assert min(second.replay.classes[name] for name in ("kind", "coloured")) >= 6
    assert second.replay.rows <= 12
    third = rows_of(second.buffer)["label"].to_pylist()
    assert sum(len(label) == 3 and label[2] == "1" for label in third) >= 6


def test_adapters_are_trained_on_replayed_rows(tmp_path):
    world = world_of(tmp_path, {"labels": ["no", "yes"]}, toy_rows(120))
    first = trained(world, run_of(world, "g1-train-1"))
    world.parent, world.data = first.artifact, freeze(world.home, toy_rows(100, 1))
    lora = {"method": {"type": "LoRA", "lora": {"rank": 4}}}
    without = trained(world, run_of(world, "g2-train-1", training=lora))
    made = trained(world, run_of(world, "g2-train-2", first.buffer, training=lora))
    assert made.replay.rows == 20
    assert made.artifact.digest != without.artifact.digest
