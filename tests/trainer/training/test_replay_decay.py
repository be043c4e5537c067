"""Replay with halfLife: newer rows are preferred, but for a floor of each class."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from trainer.training.conftest import World, freeze, toy_rows
from trainer.training.test_ranking import lists
from trainer.training.test_replay import built, check_resume, rows_of, run_of, trained
from trainer.training.test_replay_of_tasks import RANKING, world_of
from trainer.training.test_replay_of_tasks import run_of as ranked

from springtide_trainer.data.snapshots import next_buffer, replay_buffer
from springtide_trainer.data.snapshots.frozen_rows import read_chunks
from springtide_trainer.storage import local_path
from springtide_trainer.training.training_state import identity

if TYPE_CHECKING:
    from pathlib import Path

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DECAYING = {"replay": {"ratio": "0.25", "rowsPerClass": 5, "bufferRows": 60, "halfLife": "24h"}}
SHORT = {"maxSteps": 2, "batchSize": 16}


def rows_of_days(days: range, count: int = 60, label: str | None = None) -> dict[str, list[Any]]:
    """Return rows of each of the days after FIRST; with a label: only rows of it."""
    found: dict[str, list[Any]] = {"text": [], "label": [], "entity": [], "timestamp": []}
    for day in days:
        rows = toy_rows(count, seed=day)
        for text, each, entity in zip(rows["text"], rows["label"], rows["entity"], strict=True):
            if label in {None, each}:
                found["text"].append(text)
                found["label"].append(each)
                found["entity"].append(f"{day}-{entity}")
                found["timestamp"].append(FIRST + timedelta(days=day))
    return found


def window(world: World, days: range, label: str | None = None) -> tuple[Path, str]:
    return freeze(world.home, rows_of_days(days, label=label))


def chain(world: World, *windows: tuple[tuple[Path, str], dict[str, Any]], job: str = "g"):
    """Train one generation after the other; return what the last one made."""
    made = None
    for number, (data, retention) in enumerate(windows, 1):
        run = run_of(
            world,
            f"{job}{number}-train-1",
            made and made.buffer,
            data=data,
            retention=retention,
            hyperparameters=SHORT,
        )
        made = trained(world, run)
    return made


def ages(buffer) -> Counter[int]:
    table = rows_of(buffer)
    newest = max(table["timestamp"].to_pylist())
    return Counter((newest - moment).days for moment in table["timestamp"].to_pylist())


def manifest_of(buffer) -> dict[str, Any]:
    return json.loads((local_path(buffer.uri) / "manifest.json").read_bytes())


def test_a_buffer_does_not_depend_on_how_its_rows_are_cut_into_windows_and_chunks(
    world, monkeypatch
):
    one = chain(world, (window(world, range(9)), DECAYING), job="a")
    three = chain(world, *((window(world, range(n, n + 3)), DECAYING) for n in (0, 3, 6)), job="b")
    monkeypatch.setattr(next_buffer, "WAITING", 1)
    monkeypatch.setattr(next_buffer, "read_chunks", partial(read_chunks, size=7))
    small = chain(world, (window(world, range(9)), DECAYING), job="c")

    assert one.buffer.digest == three.buffer.digest == small.buffer.digest
    counts = ages(one.buffer)
    assert sum(counts[day] for day in range(3)) >= 48  # 7/8 of 60 are 52.5
    assert set(manifest_of(one.buffer)["decayed"][0]) == {"hours", "below"}


def test_without_half_life_a_manifest_has_nothing_of_it_and_old_rows_keep_their_chance(world):
    plain = {"replay": {**DECAYING["replay"]}}
    del plain["replay"]["halfLife"]
    made = chain(world, *((window(world, range(n, n + 3)), plain) for n in (0, 3, 6)))
    assert "decayed" not in manifest_of(made.buffer)
    assert made.replay.median is None
    assert sum(ages(made.buffer)[day] for day in range(6, 9)) >= 10  # a third of 60 are 20


def test_the_floor_keeps_and_replays_rows_of_a_class_that_stopped_many_half_lives_ago(world):
    first = chain(world, (window(world, range(3)), DECAYING))
    late = range(40, 43)
    run = run_of(
        world,
        "h2-train-1",
        first.buffer,
        data=window(world, late, "no"),
        retention=DECAYING,
        hyperparameters=SHORT,
    )
    second = trained(world, run)
    classes = Counter(rows_of(second.buffer)["label"].to_pylist())
    assert (classes["yes"], classes["no"]) == (5, 55)
    assert second.replay.classes["yes"] >= 5
    assert second.replay.median == FIRST + timedelta(days=2)  # 2^-1 and 2^-2 are less than half
    newest = rows_of(second.buffer).filter(
        [label == "no" for label in rows_of(second.buffer)["label"].to_pylist()]
    )
    assert min(newest["timestamp"].to_pylist()) >= FIRST + timedelta(days=40)


def test_a_half_life_that_is_set_changed_or_removed_counts_from_the_next_run_on(world):
    plain = {"replay": {**DECAYING["replay"]}}
    del plain["replay"]["halfLife"]
    slow = {"replay": {**DECAYING["replay"], "halfLife": "96h"}}
    windows = [window(world, range(n, n + 3)) for n in (0, 3, 6, 9)]

    made = chain(world, *zip(windows[:2], [plain, DECAYING], strict=True), job="a")
    assert sum(ages(made.buffer)[day] for day in range(3)) >= 45
    limits = replay_buffer.read(made.buffer, run_of(world, "r").recipe, []).limits
    assert list(limits.decayed) == [24]

    slower = chain(world, *zip(windows[:3], [plain, DECAYING, slow], strict=True), job="b")
    limits = replay_buffer.read(slower.buffer, run_of(world, "r").recipe, []).limits
    assert sorted(limits.decayed) == [24, 96]  # what decayed faster is still missing

    removed = chain(world, *zip(windows, [plain, DECAYING, plain, plain], strict=True), job="c")
    limits = replay_buffer.read(removed.buffer, run_of(world, "r").recipe, []).limits
    assert limits.below < 1
    assert list(limits.decayed) == [24]
    again = chain(world, *zip(windows, [plain, DECAYING, plain, plain], strict=True), job="d")
    assert again.buffer == removed.buffer


def test_after_a_rollback_the_older_buffer_gives_the_same_rows_again(world):
    first = chain(world, (window(world, range(3)), DECAYING), job="a")
    bad = run_of(world, "a2", first.buffer, data=window(world, range(3, 6)), retention=DECAYING)
    before = built(world, bad)
    trained(world, bad)
    assert built(world, bad).table == before.table
    assert built(world, bad).limits == before.limits
    assert max(rows_of(first.buffer)["timestamp"].to_pylist()) < FIRST + timedelta(days=3)


def test_a_resumed_run_with_half_life_has_equal_weights_and_an_equal_buffer(world, monkeypatch):
    first = chain(world, (window(world, range(3)), DECAYING))
    options = {
        "hyperparameters": {"maxSteps": 8, "batchSize": 16, "dropout": "0.1"},
        "checkpoint": {"everySteps": 3},
        "data": window(world, range(3, 6)),
        "retention": DECAYING,
    }
    check_resume(world, monkeypatch, first.buffer, options)


def test_a_checkpoint_of_another_half_life_belongs_to_another_run(world):
    slow = {"replay": {**DECAYING["replay"], "halfLife": "96h"}}
    runs = [run_of(world, "g1-train-1", retention=each) for each in (DECAYING, slow)]
    one, other = (identity(run.recipe, run.train) for run in runs)
    assert {name for name in one if one[name] != other[name]} == {"replay"}


def test_groups_are_kept_whole_and_newer_ones_more_often(tmp_path):
    rows = lists(60)
    days = {group: number % 6 for number, group in enumerate(dict.fromkeys(rows["group"]))}
    rows["timestamp"] = [FIRST + timedelta(days=days[group]) for group in rows["group"]]
    world = world_of(tmp_path, RANKING, rows)
    made = trained(
        world, ranked(world, "g1-train-1", bufferRows=80, rowsPerClass=2, halfLife="12h")
    )
    held = Counter(rows_of(made.buffer)["group"].to_pylist())
    assert held == {group: rows["group"].count(group) for group in held}
    found = Counter(days[group] for group in held)
    assert found[5] > found[4] > found[2]
    assert found[5] + found[4] >= 0.8 * len(held)
