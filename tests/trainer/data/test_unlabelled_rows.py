"""Rows without a label: training rows for pseudo-labels, and never a row that judges."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.data.snapshots.frozen_rows import read_rows, verify
from springtide_trainer.data.source import index_cache
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_trainer.storage import Home

    Look = Callable[..., Any]

UNLABELLED = {"unlabelled": {"pseudoLabels": {}}}
LEAST = {"window": {"minRows": 1}, "holdout": {"minRows": 1, "minEntities": 1}}


def months(label: Callable[[int], str], count: int = 40) -> list[dict[str, str]]:
    """Rows of two months, the newest of which is the holdout; one shopper for two rows."""
    return [
        {
            "at": f"2026-{1 + number * 2 // count:02}-{1 + number % 20:02}T00:00:00Z",
            "query": f"shoe {number}",
            "item": "x",
            "clicked": label(number),
            "shopper": f"s{number // 2}",
        }
        for number in range(count)
    ]


def third(number: int) -> str:
    """Every third row has no label."""
    return "" if number % 3 == 0 else str(number % 2)


@pytest.fixture
def asked() -> dict[str, Any]:
    return {**LEAST, "columns": {"entity": "shopper"}, "training": UNLABELLED}


@pytest.mark.survives(
    "Data",
    "rows without a label, with training.unlabelled",
    "frozen as training rows; in no holdout and not among reserved rows, nor counted for minRows",
)
def test_rows_without_a_label_are_frozen_for_training_and_in_no_other_part(
    run_probe: Look, write_csv: Look, tmp_path: Path, asked
) -> None:
    source = write_csv(tmp_path / "a.csv", months(third))
    found = run_probe(source, **asked, reserve="0.3").window
    folder = local_path(found.manifest)
    verify(folder, found.digest)
    rows = {part: read_rows(folder, part) for part in ("train", "reserved", "holdout")}
    labels = {part: Counter(table["label"].to_pylist()) for part, table in rows.items()}
    assert 0 < labels["train"][""] < 7
    assert labels["reserved"][""] == labels["holdout"][""] == 0
    assert len(rows["reserved"]) == found.reserved_rows > 0
    known = {row["query"]: row["clicked"] for row in months(third)}
    for table in rows.values():
        for text, label in zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True):
            assert known[text] == label

    holdout = [row for row in months(third)[20:] if row["clicked"]]
    assert sorted(rows["holdout"]["text"].to_pylist()) == sorted(row["query"] for row in holdout)
    assert found.holdout_rows == len(holdout) == 13
    assert found.holdout_entities == len({row["shopper"] for row in holdout})
    assert found.holdout_positives == sum(row["clicked"] == "1" for row in holdout)
    assert found.rows == len(rows["train"])


@pytest.mark.parametrize("strategy", ["LatestPartitions", "Tail"])
def test_only_rows_with_a_label_count_for_the_minima(
    run_probe: Look, write_csv: Look, tmp_path: Path, asked, strategy
) -> None:
    """Of 20 rows of a month 13 have a label; the tail of 30 of 40 rows is the last fourth."""
    source = write_csv(tmp_path / "a.csv", months(third))
    latest = strategy == "LatestPartitions"
    cut = {"type": "Tail", "tail": {"fraction": "0.5"}} if not latest else {"type": strategy}
    if latest:
        cut["latestPartitions"] = {"partitions": 1}
    holdout = {**LEAST["holdout"], "strategy": cut}

    def probed(least: int, holdout_rows: int = 1) -> Any:
        limits = {"window": {"minRows": least}, "holdout": {**holdout, "minRows": holdout_rows}}
        return run_probe(source, **{**asked, **limits})

    ready = probed(13, 13)
    assert ready.reason == "WindowReady"
    assert ready.message.endswith("; 7 training rows have no label")
    assert (ready.window.rows, ready.window.unlabelled_rows) == (20, 7)
    assert probed(14).message == "13 of 14 training rows with a label (data.window.minRows)"
    assert probed(13, 14).message == "13 of 14 holdout rows with a label (data.holdout.minRows)"


def test_without_one_labelled_training_row_nothing_is_trained(
    run_probe: Look, write_csv: Look, tmp_path: Path, asked
) -> None:
    rows = months(lambda number: "" if number < 20 else "1")
    source = write_csv(tmp_path / "a.csv", rows)
    asked["window"] = {"minRows": 1, "maxWait": "1h"}
    found = run_probe(source, **asked)
    assert (found.reason, found.window) == ("NotEnoughData", None)
    assert found.message == "0 training rows have a label: pseudo-labels need some that have one"
    one = months(lambda number: "" if 0 < number < 20 else "1")
    found = run_probe(write_csv(tmp_path / "b.csv", one), **asked)
    assert found.message.startswith("all 1 training rows have label '1'")


@pytest.mark.parametrize("without", ["a label", "a row that passes the filter"])
def test_a_partition_without_such_rows_leaves_the_holdout_of_a_candidate_as_it_is(
    run_probe: Look, write_csv: Look, tmp_path: Path, asked, without
) -> None:
    """Equal partitions, times and digest: the operator does not have equal rows judged again."""
    kind = "random" if without == "a label" else "ranked"
    rows = [{**row, "traffic": "random"} for row in months(third)]
    later = [
        {**row, "at": row["at"].replace("2026-02", "2026-03"), "traffic": kind} for row in rows[20:]
    ]
    asked["probe"] = {"candidateTrainedThrough": "2026-02-01T00:00:00Z"}
    asked["holdout"] = {**LEAST["holdout"], "filter": {"column": "traffic", "equals": "random"}}

    def found(name: str, new: list[dict[str, str]]) -> Any:
        return run_probe(write_csv(tmp_path / name, rows + new), **asked).window

    before = found("a.csv", [])
    assert (before.holdout_partitions, before.holdout_rows) == (["2026-02"], 13)
    label = "" if without == "a label" else "1"
    assert found("b.csv", [{**row, "clicked": label} for row in later]) == before
    longer = found("c.csv", [{**row, "clicked": "1", "traffic": "random"} for row in later])
    assert (longer.holdout_partitions, longer.holdout_rows) == (["2026-02", "2026-03"], 33)
    assert longer.digest != before.digest


def test_a_window_that_max_rows_ends_has_rows_with_a_label(
    run_probe: Look, write_csv: Look, tmp_path: Path, asked
) -> None:
    """It is the oldest rows, whatever follows them: without a label it would wait for ever."""
    rows = months(lambda number: "" if number < 20 else str(number % 2))
    rows += [{**row, "at": row["at"].replace("2026-02", "2026-03")} for row in rows[20:]]
    asked["window"] = {"minRows": 1, "maxRows": 20}
    found = run_probe(write_csv(tmp_path / "a.csv", rows), **asked)
    assert (found.window.rows, found.window.unlabelled_rows) == (40, 20)
    assert found.window.partitions == ["2026-01", "2026-02"]
    assert found.window.holdout_partitions == ["2026-03"]

    rows = months(lambda number: "" if number < 19 else str(number % 2))
    rows += [{**row, "at": row["at"].replace("2026-02", "2026-03")} for row in rows[20:]]
    found = run_probe(write_csv(tmp_path / "b.csv", rows), **asked)
    assert found.message.startswith("all 1 training rows have label '1'")
    assert found.message.endswith(
        "; 20 later rows have a label, and a window that ends at data.window.maxRows does not "
        "grow: raise maxRows"
    )


def test_without_the_option_and_with_another_wrong_label_rows_are_refused(
    refuse: Look, run_probe: Look, write_csv: Look, tmp_path: Path, asked
) -> None:
    source = write_csv(tmp_path / "a.csv", months(third))
    reason, _, message = refuse(source, **{**asked, "training": {}})
    assert reason == "MissingLabel"
    assert "7 of 20 train rows have no label" in message
    wrong = write_csv(tmp_path / "b.csv", months(lambda n: "maybe" if n == 4 else third(n)))
    assert refuse(wrong, **asked)[0] == "UnknownLabel"


def test_a_kept_index_says_which_rows_have_a_label(
    run_probe: Look, write_csv: Look, tmp_path: Path, home: Home, asked, monkeypatch
) -> None:
    source = write_csv(tmp_path / "a.csv", months(third))
    asked["now"] = "2036-01-01T00:00:00Z"  # the file has not just changed
    first = run_probe(source, **asked)
    kept = sorted(path.name for path in (home.path / index_cache.FOLDER).iterdir())
    assert len(kept) == 1
    found: list[object] = []
    find = index_cache.IndexCache.find
    monkeypatch.setattr(
        index_cache.IndexCache,
        "find",
        lambda own, entry: found.append(find(own, entry)) or found[-1],
    )
    assert run_probe(source, **asked) == first
    assert [each is not None for each in found] == [True]
    plain = write_csv(tmp_path / "c.csv", months(lambda number: str(number % 2)))
    both = [
        run_probe(plain, **{**asked, "training": way}).window.digest for way in ({}, UNLABELLED)
    ]
    assert both[0] == both[1], "the same rows have the same digest"
