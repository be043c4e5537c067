"""Replay by slice: rows of a slice that no longer arrives are trained on again, with any task."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trainer.training.conftest import GOOD, World, freeze, toy_rows
from trainer.training.test_multi_label import SEVERAL, labelled
from trainer.training.test_ranking import lists
from trainer.training.test_regression import REGRESSION, predictions, priced
from trainer.training.test_replay_of_tasks import RANKING, SHORT, rows_of, run_of, trained, world_of

from springtide_api.contract import RunFile
from springtide_trainer.data.snapshots import next_buffer, replay_buffer
from springtide_trainer.data.source.reserved_entities import is_reserved
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from springtide_api.generation.spec import ReplayBuffer

FLOOR = 7
LABELS = {"labels": ["no", "yes"]}


def in_seasons(rows: dict[str, list[Any]], *seasons: str) -> dict[str, list[Any]]:
    """Give each entity, of four rows, one of the seasons."""
    return rows | {"slice": [seasons[n // 4 % len(seasons)] for n in range(len(rows["text"]))]}


def later(rows: dict[str, list[Any]], seed: int) -> dict[str, list[Any]]:
    return rows | {"entity": [f"later-{seed}-{name}" for name in rows["entity"]]}


def sliced(run: RunFile, column: str | None = "season", reserve: str = "") -> RunFile:
    """Name the column of the slices in the recipe of a run."""
    plain = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["recipe"]["data"]["source"]["columns"]["slice"] = column
    if reserve:
        plain["recipe"]["data"]["reserve"] = {"fraction": reserve}
    return RunFile.model_validate(plain)


def by_slice(buffer: ReplayBuffer) -> Counter[str]:
    return Counter(rows_of(buffer)["slice"].to_pylist())


def held(buffer: ReplayBuffer, run: RunFile, quarantined: Sequence[str] = ()) -> replay_buffer.Held:
    return replay_buffer.read(buffer, run.recipe, quarantined)


@pytest.fixture
def shop(tmp_path: Path) -> World:
    """A classifier whose rows are of two seasons."""
    return world_of(tmp_path, LABELS, in_seasons(toy_rows(120), "winter", "summer"))


def test_numbers_of_a_slice_that_no_longer_arrives_are_replayed_and_stay_in_the_buffer(tmp_path):
    rows = in_seasons(priced(toy_rows(120)), "winter", "summer")
    world = world_of(tmp_path, REGRESSION, rows)
    options = {"ratio": "0", "rowsPerSlice": FLOOR, "bufferRows": 40}
    made = trained(world, sliced(run_of(world, "g1-train-1", **options)))
    for number in (2, 3):
        world.parent = made.artifact
        only = later(in_seasons(priced(toy_rows(80, number)), "summer"), number)
        world.data = freeze(world.home, only)
        run = sliced(run_of(world, f"g{number}-train-1", made.buffer, **options))
        made = trained(world, run)
        assert made.replay.slices == {"summer": FLOOR, "winter": FLOOR}
        assert (made.replay.rows, made.replay.classes) == (2 * FLOOR, {})
        assert made.replay.message == ""
        assert made.buffer.rows == 40
        assert by_slice(made.buffer)["winter"] >= FLOOR


def test_prices_of_a_slice_that_no_longer_arrives_are_forgotten_without_replay_and_kept_with_it(
    tmp_path,
):
    def kinds(rows: dict[str, list[Any]]) -> list[str]:
        return ["kind" if set(text.split()) & set(GOOD) else "unkind" for text in rows["text"]]

    rows = priced(toy_rows(240))
    world = world_of(tmp_path, REGRESSION, rows | {"slice": kinds(rows)})
    fast = {"epochs": 16, "learningRate": "3e-3", "batchSize": 16, "freeze": {"embeddings": False}}
    training = {"hyperparameters": fast}
    # The ratio of four seeds: 0.06 to 0.22; with 40 rows and 8 epochs 0.64 to 1.34.
    options = {"ratio": "0", "rowsPerSlice": 120}
    first = trained(world, sliced(run_of(world, "g1-train-1", training=training, **options)))
    old = [n for n, kind in enumerate(kinds(rows)) if kind == "kind"]
    asked = freeze(world.home, {name: [values[n] for n in old] for name, values in rows.items()})

    world.parent = first.artifact
    moved = later(priced(toy_rows(240, 1), more=60.0), 1)
    new = [n for n, kind in enumerate(kinds(moved)) if kind == "unkind"]
    only = {name: [values[n] for n in new] for name, values in moved.items()}
    world.data = freeze(world.home, only | {"slice": ["unkind"] * len(new)})
    errors = {}
    for buffer in (None, first.buffer):
        run = sliced(run_of(world, "g2-train-1", buffer, training=training, **options))
        found, prices = predictions(trained(world, run).artifact, asked)
        errors[buffer is not None] = np.abs(found - prices).mean()
    assert errors[True] < 0.6 * errors[False]


def test_a_row_with_several_labels_counts_for_each_of_them_and_for_its_slice(tmp_path):
    rows = in_seasons(labelled(toy_rows(160), dressed=False), "winter", "summer", "summer")
    world = world_of(tmp_path, SEVERAL, rows)
    options = {"ratio": "0", "rowsPerClass": 5, "rowsPerSlice": FLOOR, "bufferRows": 60}
    first = trained(world, sliced(run_of(world, "g1-train-1", **options)))

    world.parent = first.artifact
    summer = in_seasons(labelled(toy_rows(80, seed=1), dressed=False), "summer")
    kept = [n for n, label in enumerate(summer["label"]) if label[0] == "0"]
    world.data = freeze(world.home, {name: [v[n] for n in kept] for name, v in summer.items()})
    second = trained(world, sliced(run_of(world, "g2-train-1", first.buffer, **options)))
    assert min(second.replay.slices.values()) >= FLOOR
    assert min(second.replay.classes.values()) >= 5
    assert set(second.replay.slices) == {"winter", "summer"}
    assert second.replay.rows <= 2 * FLOOR + 2 * 5
    labels, seasons = (rows_of(second.buffer)[name].to_pylist() for name in ("label", "slice"))
    assert sum(label[0] == "1" for label in labels) >= 5  # no new row has it
    assert seasons.count("winter") >= FLOOR


def test_groups_are_replayed_whole_until_each_slice_has_its_rows(tmp_path):
    shelves = {"q0": "rare", "q1": "rare", "q2": "single"}
    rows = lists(40)
    rows["slice"] = [shelves.get(group, "common") for group in rows["group"]]
    world = world_of(tmp_path, RANKING, rows)
    options = {"ratio": "0", "rowsPerClass": 0, "rowsPerSlice": FLOOR, "bufferRows": 80}
    first = trained(world, sliced(run_of(world, "g1-train-1", **options)))
    sizes = Counter(rows["group"])
    groups = Counter(rows_of(first.buffer)["group"].to_pylist())
    assert {group: groups[group] for group in shelves} == {group: sizes[group] for group in shelves}
    newer = lists(30, seed=5)
    names = [f"later-{name}" for name in newer["group"]]
    common = {"group": names, "entity": names, "slice": ["common"] * len(names)}
    world.data = freeze(world.home, newer | common)
    second = trained(world, sliced(run_of(world, "g2-train-1", first.buffer, **options)))
    assert second.replay.slices["rare"] == sizes["q0"] + sizes["q1"]
    assert second.replay.slices["single"] == sizes["q2"]
    assert FLOOR <= second.replay.slices["common"] < FLOOR + 7  # the largest group has 7 rows
    short = [f"{name} {n}" for name, n in sorted(second.replay.slices.items()) if n < FLOOR]
    expected = f"{len(short)} of 3 slices have fewer than 7 (rowsPerSlice): {', '.join(short)}"
    assert second.replay.message == expected


def test_without_a_number_each_slice_has_ten_rows_beside_the_ratio(shop):
    first = trained(shop, sliced(run_of(shop, "g1-train-1")))
    shop.data = freeze(shop.home, later(in_seasons(toy_rows(80, 1), "summer"), 1))
    run = sliced(run_of(shop, "g2-train-1", first.buffer, ratio="0", rowsPerClass=0))
    assert trained(shop, run).replay.slices == {"summer": 10, "winter": 10}
    more = sliced(run_of(shop, "g2-train-2", first.buffer, ratio="0.5", rowsPerClass=0))
    assert trained(shop, more).replay.rows == 40
    none = sliced(
        run_of(shop, "g2-train-3", first.buffer, ratio="0.1", rowsPerClass=0, rowsPerSlice=0)
    )
    made = trained(shop, none)
    assert (made.replay.rows, made.replay.message) == (8, "")


def test_many_slices_share_the_rows_of_the_buffer(tmp_path):
    names = [f"item {number}" for number in range(30)]
    world = world_of(tmp_path, LABELS, in_seasons(toy_rows(240), *names))
    options = {"rowsPerSlice": 4, "rowsPerClass": 0, "bufferRows": 60}
    made = trained(world, sliced(run_of(world, "g1-train-1", **options)))
    assert set(by_slice(made.buffer)) == set(names)
    assert set(by_slice(made.buffer).values()) == {2}
    again = sliced(run_of(world, "g2-train-1", made.buffer, **options))
    replayed = trained(world, again).replay
    assert replayed.rows == 60
    assert replayed.message.startswith("30 of 30 slices have fewer than 4 (rowsPerSlice): item 0 2")


def test_rows_of_reserved_entities_and_quarantined_partitions_are_in_no_floor(shop):
    first = trained(shop, sliced(run_of(shop, "g1-train-1", rowsPerSlice=500, bufferRows=500)))
    run = sliced(
        run_of(shop, "g2-train-1", first.buffer, rowsPerSlice=500, bufferRows=500), reserve="0.3"
    )
    usable = [e for e in rows_of(first.buffer)["entity"].to_pylist() if not is_reserved(e, "0.3")]
    made = trained(shop, run)
    assert 0 < made.replay.rows == len(usable) < first.buffer.rows
    assert not any(is_reserved(e, "0.3") for e in rows_of(made.buffer)["entity"].to_pylist())
    assert len(held(first.buffer, run, ["2026-03"]).table) == 0


def test_a_slice_is_covered_by_the_digest_of_the_buffer_and_equal_rows_leave_an_equal_one(shop):
    run = sliced(run_of(shop, "g1-train-1"))
    made = trained(shop, run)
    assert trained(shop, sliced(run_of(shop, "g1-train-2"))).buffer == made.buffer
    shop.data = freeze(shop.home, in_seasons(toy_rows(120), "winter", "summer", "summer"))
    assert trained(shop, sliced(run_of(shop, "g1-train-3"))).buffer.digest != made.buffer.digest

    path = local_path(made.buffer.uri) / replay_buffer.ROWS
    table = pq.read_table(path)
    place = table.column_names.index("slice")
    swapped = pa.array(["summer"] * len(table))
    pq.write_table(table.set_column(place, "slice", swapped), path)
    with pytest.raises(Refused, match="does not match its manifest"):
        held(made.buffer, run)


@pytest.mark.parametrize("replay", [{}, {"halfLife": "24h"}])
def test_a_resumed_run_with_slices_has_equal_weights_and_an_equal_buffer(shop, monkeypatch, replay):
    options = {"ratio": "0.1", "rowsPerSlice": FLOOR, "bufferRows": 60, **replay}
    first = trained(shop, sliced(run_of(shop, "g1-train-1", **options)))
    shop.data = freeze(shop.home, later(in_seasons(toy_rows(80, 1), "summer"), 1))
    training = {
        "hyperparameters": {**SHORT, "maxSteps": 10, "dropout": "0.1"},
        "earlyStopping": {"everySteps": 3, "patience": 9},
        "checkpoint": {"everySteps": 4, "keep": 9},
    }

    def run(job: str) -> RunFile:
        return sliced(run_of(shop, job, first.buffer, training=training, **options))

    whole = trained(shop, run("g2-train-1"))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(next_buffer, "build", die)
        with pytest.raises(KeyboardInterrupt):
            shop.train(run("g2-train-2"))
    for newer in sorted(shop.home.checkpoints(1).iterdir())[1:]:
        shutil.rmtree(newer)
    resumed = shop.train(run("g2-train-3"))
    assert resumed.artifact.digest == whole.artifact.digest
    assert (resumed.buffer, resumed.replay) == (whole.buffer, whole.replay)
    assert whole.replay.slices["winter"] >= FLOOR


def test_a_checkpoint_of_another_floor_is_not_used(shop, caplog):
    training = {"checkpoint": {"everySteps": 2}, "hyperparameters": SHORT}
    shop.train(sliced(run_of(shop, "g1-train-1", training=training)))
    with caplog.at_level("INFO"):
        shop.train(sliced(run_of(shop, "g1-train-2", training=training, rowsPerSlice=FLOOR)))
    assert "checkpoint belongs to another run" in caplog.text


def test_rows_of_before_the_column_was_named_are_kept_and_are_of_no_slice(shop):
    plain = toy_rows(120)
    shop.data = freeze(shop.home, plain)
    options = {"ratio": "0", "rowsPerClass": 4, "bufferRows": 50}
    first = trained(shop, run_of(shop, "g1-train-1", **options))
    newer = later(in_seasons(toy_rows(80, 1), "winter"), 1)
    shop.data = freeze(shop.home, newer)
    second = trained(shop, sliced(run_of(shop, "g2-train-1", first.buffer, **options)))
    assert second.replay.rows == 8
    assert second.replay.slices == {}
    assert second.replay.message == "no row of the parent's buffer has a slice (rowsPerSlice)"
    assert by_slice(second.buffer).keys() == {"", "winter"}
    assert held(second.buffer, sliced(run_of(shop, "x"), "country")).table[
        "slice"
    ].unique() == pa.array([""])

    # The column changes no row's place in the sample: only floors do.
    bare = {"rowsPerClass": 4, "bufferRows": 50, "rowsPerSlice": 0}
    third = trained(shop, sliced(run_of(shop, "g2-train-2", first.buffer, **bare)))
    shop.data = freeze(shop.home, {name: v for name, v in newer.items() if name != "slice"})
    without = trained(shop, run_of(shop, "g2-train-3", first.buffer, **bare))
    kept, same = (sorted(rows_of(one.buffer)["text"].to_pylist()) for one in (third, without))
    assert kept == same
    again = held(third.buffer, run_of(shop, "g3-train-1")).table
    assert "slice" not in again.column_names
    assert len(again) == 50


def test_names_of_slices_are_values_of_the_data_and_shown_on_one_short_line(tmp_path):
    names = ("a\nb", "x" * 150 + "1", "x" * 150 + "2")
    world = world_of(tmp_path, LABELS, in_seasons(toy_rows(120), *names))
    first = trained(world, sliced(run_of(world, "g1-train-1")))
    replay = {"ratio": "0", "rowsPerSlice": 100}
    second = trained(world, sliced(run_of(world, "g2-train-1", first.buffer, **replay))).replay
    assert second.slices == {"a\\nb": 40, "x" * 100: 40}
    assert "\n" not in second.message
    assert f"a\\nb 40, {'x' * 32} 40, {'x' * 32} 40" in second.message


def test_at_most_256_slices_are_reported_those_with_the_fewest_rows(tmp_path):
    names = [f"{number:03}" for number in range(300)]
    rows = toy_rows(400)
    rows["slice"] = [*names, *names[:100]]
    world = world_of(tmp_path, LABELS, rows)
    first = trained(world, sliced(run_of(world, "g1-train-1")))
    again = sliced(run_of(world, "g2-train-1", first.buffer, ratio="1", rowsPerSlice=2))
    found = trained(world, again).replay.slices
    assert len(found) == 256
    assert list(found.values()) == [1] * 200 + [2] * 56
