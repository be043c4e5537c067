"""Rows of earlier windows are trained on again, and each training leaves a buffer for the next."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trainer.training.conftest import LABELS, World, freeze, toy_rows

from springtide_api.contract import RunFile
from springtide_trainer.data.snapshots import next_buffer, replay_buffer
from springtide_trainer.data.snapshots.frozen_rows import read_chunks
from springtide_trainer.data.source.reserved_entities import is_reserved
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path
from springtide_trainer.training.rows.mixture import Mixture

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.generation.spec import ReplayBuffer

REPLAY = {"replay": {"ratio": "0.25", "rowsPerClass": 5, "bufferRows": 80}}
SHORT = {"maxSteps": 6, "batchSize": 16, "learningRate": "1e-3"}


def later(world: World, seed: int = 1, count: int = 120, label: str | None = None):
    """Return rows of a later window, with other entities; with a label: only rows of it."""
    rows = toy_rows(count, seed)
    rows["entity"] = [f"later-{seed}-{name}" for name in rows["entity"]]
    if label is not None:
        kept = [n for n, each in enumerate(rows["label"]) if each == label]
        rows = {name: [values[n] for n in kept] for name, values in rows.items()}
    return freeze(world.home, rows)


def run_of(
    world: World,
    job: str,
    buffer: ReplayBuffer | None = None,
    *,
    data: tuple[Path, str] | None = None,
    quarantined: tuple[str, ...] = (),
    reserve: str = "",
    retention: dict[str, Any] = REPLAY,
    **training: Any,
) -> RunFile:
    options = {"hyperparameters": SHORT, **training, "retention": retention}
    plain = world.run_file(job, **options).model_dump(mode="json", by_alias=True, exclude_none=True)
    if data:
        plain["train"]["data"] = {"uri": data[0].as_uri(), "digest": data[1]}
    if buffer:
        plain["train"]["buffer"] = buffer.plain()
    plain["train"]["quarantined"] = list(quarantined)
    if reserve:
        plain["recipe"]["data"]["reserve"] = {"fraction": reserve}
    return RunFile.model_validate(plain)


def trained(world: World, run: RunFile):
    made = world.train(run)
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    return made


def rows_of(buffer: ReplayBuffer) -> pa.Table:
    return pq.read_table(local_path(buffer.uri) / replay_buffer.ROWS)


def test_the_first_run_replays_nothing_says_why_and_leaves_a_buffer(world):
    made = trained(world, run_of(world, "g1-train-1"))

    assert made.replay is not None
    assert made.replay.rows == 0
    assert made.replay.message == "the parent left no buffer"
    assert made.buffer is not None
    assert made.buffer.rows == 80
    counts = Counter(rows_of(made.buffer)["label"].to_pylist())
    assert min(counts[label] for label in LABELS) >= 5


def test_a_class_that_no_longer_arrives_is_replayed_and_stays_in_the_buffer(world):
    first = trained(world, run_of(world, "g1-train-1"))
    only = later(world, label="no")
    second = trained(world, run_of(world, "g2-train-1", first.buffer, data=only))
    third = trained(
        world, run_of(world, "g3-train-1", second.buffer, data=later(world, 2, label="no"))
    )

    assert second.replay.classes["yes"] >= 5
    assert second.replay.message == ""
    assert third.replay.classes["yes"] >= 5
    assert Counter(rows_of(third.buffer)["label"].to_pylist())["yes"] >= 5


def test_equal_rows_leave_an_equal_buffer_and_another_parent_buffer_gives_other_weights(world):
    first = trained(world, run_of(world, "g1-train-1"))
    data = later(world)
    one = trained(world, run_of(world, "g2-train-1", first.buffer, data=data))
    again = trained(world, run_of(world, "g2-train-2", first.buffer, data=data))
    without = trained(world, run_of(world, "g2-train-3", data=data))

    assert (one.artifact.digest, one.buffer) == (again.artifact.digest, again.buffer)
    assert without.artifact.digest != one.artifact.digest
    assert without.buffer.digest != one.buffer.digest


def built(world: World, run: RunFile) -> next_buffer.Sample:
    held = replay_buffer.read(run.train.buffer, run.recipe, [])
    return next_buffer.build(
        next_buffer.Sample(held.table, held.limits),
        local_path(run.train.data.uri),
        run.recipe,
        replay=run.recipe.training.retention.replay,
        quarantined=[],
    )


def test_a_buffer_sampled_chunk_by_chunk_has_the_rows_of_one_sampled_at_once(world, monkeypatch):
    few = {"replay": {"rowsPerClass": 4, "bufferRows": 20}}
    first = trained(world, run_of(world, "g1-train-1", retention=few))
    run = run_of(world, "g2-train-1", first.buffer, data=later(world), retention=few)
    whole = built(world, run)
    assert len(whole.table) == 20

    monkeypatch.setattr(next_buffer, "WAITING", 1)
    monkeypatch.setattr(next_buffer, "read_chunks", partial(read_chunks, size=7))
    again = built(world, run)
    assert again.table.equals(whole.table)
    assert 0 < again.limits.below == whole.limits.below < 1


def test_the_buffer_does_not_depend_on_the_seed_so_old_rows_keep_their_chance(world):
    first = trained(world, run_of(world, "g1-train-1"))
    one, other = (
        run_of(world, "g2-train-1", first.buffer, data=later(world), hyperparameters=options)
        for options in (SHORT, {**SHORT, "seed": 7})
    )
    assert built(world, one).table.equals(built(world, other).table)


def test_rows_of_quarantined_partitions_and_reserved_entities_are_neither_replayed_nor_kept(world):
    first = trained(world, run_of(world, "g1-train-1"))
    data = later(world)
    bad = trained(world, run_of(world, "g2-train-1", first.buffer, quarantined=("2026-03-01",)))
    assert bad.replay.rows == 0
    assert bad.buffer.rows == 0

    some = trained(world, run_of(world, "g3-train-1", first.buffer, data=data, reserve="0.3"))
    entities = set(rows_of(some.buffer)["entity"].to_pylist())
    assert entities
    assert not any(is_reserved(entity, "0.3") for entity in entities)


def test_classes_that_the_buffer_lacks_are_reported(world):
    first = trained(world, run_of(world, "g1-train-1", data=later(world, label="no")))
    second = trained(world, run_of(world, "g2-train-1", first.buffer))

    assert second.replay.classes == {"yes": 0, "no": second.replay.rows}
    assert "1 of 2 classes have fewer than 5 (rowsPerClass): yes 0" in second.replay.message


def check_resume(world, monkeypatch, buffer, options):
    """Train; train again, end before the buffer, and resume from the first checkpoint: equal."""
    whole = trained(world, run_of(world, "g2-train-1", buffer, **options))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(next_buffer, "build", die)
        with pytest.raises(KeyboardInterrupt):
            world.train(run_of(world, "g2-train-2", buffer, **options))
    kept, *later_ones = sorted(world.home.checkpoints(1).iterdir())
    assert kept.is_dir()
    for checkpoint in later_ones:
        shutil.rmtree(checkpoint)
    resumed = world.train(run_of(world, "g2-train-3", buffer, **options))
    assert resumed.artifact.digest == whole.artifact.digest
    assert resumed.buffer == whole.buffer
    assert resumed.replay == whole.replay


def test_a_resumed_run_with_replay_has_equal_weights_and_an_equal_buffer(world, monkeypatch):
    first = trained(world, run_of(world, "g1-train-1"))
    options = {
        "hyperparameters": {**SHORT, "maxSteps": 12, "dropout": "0.1"},
        "earlyStopping": {"everySteps": 4, "patience": 9},
        "checkpoint": {"everySteps": 5},
        "data": later(world),
    }
    check_resume(world, monkeypatch, first.buffer, options)


def test_a_checkpoint_of_another_buffer_is_not_used(world, caplog):
    first = trained(world, run_of(world, "g1-train-1"))
    options = {"checkpoint": {"everySteps": 2}, "data": later(world)}
    world.train(run_of(world, "g2-train-1", first.buffer, **options))
    with caplog.at_level("INFO"):
        world.train(run_of(world, "g2-train-2", None, **options))
    assert "checkpoint belongs to another run" in caplog.text
    assert "resumed" not in [record.message for record in caplog.records]


@pytest.mark.survives(
    "Model",
    "a pod is killed at any write of the replay buffer",
    "no partly written buffer is ever used; the next attempt leaves the same one",
)
def test_a_crash_at_any_write_of_a_buffer_never_leaves_a_part_of_it(world, monkeypatch, tmp_path):
    run = run_of(world, "g1-train-1")
    table = built(world, run)
    calls, fatal = 0, -1

    def counted(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise OSError(28, "No space left on device")
            return function(*arguments, **options)

        return call

    for name in ("open", "fsync", "rename", "mkdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    whole = replay_buffer.commit(table, run.recipe, world.home, tmp_path / "0")
    needed = calls
    assert needed > 4
    for number in range(1, needed + 1):
        shutil.rmtree(local_path(whole.uri))
        calls, fatal = 0, number
        with contextlib.suppress(OSError):  # one mkdir is of a folder that is there
            replay_buffer.commit(table, run.recipe, world.home, tmp_path / f"{number}")
        fatal = -1
        if local_path(whole.uri).exists():
            assert len(replay_buffer.read(whole, run.recipe, []).table) == 80
        again = replay_buffer.commit(table, run.recipe, world.home, tmp_path / f"{number}-again")
        assert again == whole


@pytest.mark.parametrize("damage", ["rows", "bytes", "manifest", "missing"])
def test_a_damaged_buffer_is_refused_and_written_again_by_the_run_that_leaves_it(world, damage):
    first = trained(world, run_of(world, "g1-train-1"))
    folder = local_path(first.buffer.uri)
    match damage:
        case "rows":
            rows = pq.read_table(folder / replay_buffer.ROWS)
            pq.write_table(rows.slice(1), folder / replay_buffer.ROWS)
        case "bytes":
            path = folder / replay_buffer.ROWS
            content = bytearray(path.read_bytes())
            for place in range(8, len(content) // 2, 3):
                content[place] ^= 0x55
            path.write_bytes(content)
        case "manifest":
            (folder / "manifest.json").write_text("{}")
        case _:
            shutil.rmtree(folder)
    with pytest.raises(Refused, match=r"or remove training\.retention\.replay "):
        world.train(run_of(world, "g2-train-1", first.buffer, data=later(world)))
    assert trained(world, run_of(world, "g1-train-2")).buffer == first.buffer
    assert len(rows_of(first.buffer)) == 80


def test_a_buffer_of_another_label_space_is_refused(world):
    first = trained(world, run_of(world, "g1-train-1"))
    run = run_of(world, "g2-train-1", first.buffer)
    model = run.recipe.model.model_copy(update={"labels": ["no", "perhaps"]})
    other = run.recipe.model_copy(update={"model": model})
    expected = r"buffers.* label 2 is 'yes'; in model\.labels it is 'perhaps'"
    with pytest.raises(Refused, match=expected):
        replay_buffer.read(first.buffer, other, [])


def test_a_buffer_with_other_columns_is_not_used_and_a_new_one_begins(world):
    first = trained(world, run_of(world, "g1-train-1"))
    folder = local_path(first.buffer.uri)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert "shopper" in manifest["columns"]["entity"]
    run = run_of(world, "g2-train-1", first.buffer)
    columns = run.recipe.data.source.columns.model_copy(update={"text": "query"})
    source = run.recipe.data.source.model_copy(update={"columns": columns})
    data = run.recipe.data.model_copy(update={"source": source})
    held = replay_buffer.read(first.buffer, run.recipe.model_copy(update={"data": data}), [])
    assert len(held.table) == 0
    assert "other columns" in held.message


def test_a_buffer_of_another_template_or_of_a_version_with_fewer_columns_is_used(world):
    first = trained(world, run_of(world, "g1-train-1"))
    run = run_of(world, "g2-train-1", first.buffer)
    columns = run.recipe.data.source.columns.model_copy(update={"template": "{text}!"})
    source = run.recipe.data.source.model_copy(update={"columns": columns})
    data = run.recipe.data.model_copy(update={"source": source})
    held = replay_buffer.read(first.buffer, run.recipe.model_copy(update={"data": data}), [])
    assert len(held.table) == first.buffer.rows

    folder = local_path(first.buffer.uri)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["columns"].pop("features") == []
    text = json.dumps(manifest)
    older = folder.with_name("older")
    shutil.copytree(folder, older)
    (older / "manifest.json").write_text(text)
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    given = first.buffer.model_copy(update={"uri": older.as_uri(), "digest": digest})
    assert len(replay_buffer.read(given, run.recipe, []).table) == first.buffer.rows


def test_the_mixture_of_one_source_is_a_permutation_and_two_are_spread_evenly():
    alone = Mixture.of(np.zeros(50, dtype=bool)).order(np.random.default_rng(3))
    assert alone.tolist() == np.random.default_rng(3).permutation(50).tolist()

    source = np.array([0] * 80 + [1] * 20)
    order = Mixture(source).order(np.random.default_rng(3))
    assert sorted(order.tolist()) == list(range(100))
    assert [int(source[part].sum()) for part in np.split(order, 10)] == [2] * 10
