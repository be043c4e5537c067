"""Groups that began before the cursor are not in the holdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.data.snapshots.frozen_rows import read_rows
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_api.contract import ProbeOutput

    Look = Callable[..., ProbeOutput]
    Write = Callable[..., Path]

COLUMNS = {"entity": "shopper", "group": "list"}
CURSOR = {"cursor": "2026-03-01T00:00:00Z"}
TREE = {"path": "month=%Y-%m"}


@pytest.fixture
def months(clicks: Callable[..., Any]) -> dict[int, list[dict[str, Any]]]:
    """Four months; the group old has rows in January and in April."""
    made = {month: clicks(month) for month in (1, 2, 3, 4)}
    made[1][0]["list"] = made[4][0]["list"] = made[4][1]["list"] = "old"
    return made


def judging(found: ProbeOutput) -> list[str]:
    assert found.window is not None, found.message
    return read_rows(local_path(found.window.manifest), "holdout")["group"].to_pylist()


@pytest.fixture
def tree(tmp_path: Path, months: dict[int, Any], write_csv: Write) -> Path:
    for month, rows in months.items():
        write_csv(tmp_path / "tree" / f"month=2026-{month:02}" / "a.csv", rows)
    return tmp_path / "tree"


@pytest.mark.survives(
    "Data",
    "a group of the holdout began in a partition behind the cursor",
    "not part of the holdout, whether one file has the stream or a folder for each partition",
)
def test_a_group_that_began_before_the_cursor_is_not_in_the_holdout(
    run_probe: Look, tree: Path, months: dict[int, Any], write_csv: Write, tmp_path: Path
) -> None:
    whole = write_csv(tmp_path / "a.csv", [row for rows in months.values() for row in rows])
    one = run_probe(whole, columns=COLUMNS, probe=CURSOR)
    many = run_probe(tree, columns=COLUMNS, partition=TREE, probe=CURSOR)
    assert one.window.holdout_partitions == many.window.holdout_partitions == ["2026-04"]
    assert "old" not in judging(one)
    assert "old" not in judging(many)
    assert one.window.digest == many.window.digest


def test_such_groups_do_not_count_for_the_minima_of_the_holdout(
    run_probe: Look, tree: Path
) -> None:
    asked = {"columns": COLUMNS, "partition": TREE, "probe": CURSOR}
    found = run_probe(tree, holdout={"minRows": 9}, **asked)
    assert found.message == (
        "8 of 9 holdout rows (data.holdout.minRows); "
        "2 excluded because their group began before the holdout"
    )
    assert run_probe(tree, holdout={"minRows": 8}, **asked).window.holdout_rows == 8


def test_a_holdout_that_is_longer_for_want_of_rows_has_no_such_groups_either(
    run_probe: Look, months: dict[int, Any], write_csv: Write, tmp_path: Path
) -> None:
    """The window ends at maxRows, and all groups of the partition after it began before."""
    for early, late in zip(months[1], months[3], strict=True):
        late["list"] = early["list"]
    for month, rows in months.items():
        write_csv(tmp_path / "tree" / f"month=2026-{month:02}" / "a.csv", rows)
    found = run_probe(
        tmp_path / "tree",
        columns=COLUMNS,
        partition=TREE,
        window={"maxRows": 1},
        probe={"cursor": "2026-02-01T00:00:00Z"},
    )
    assert found.window.partitions == ["2026-02"]
    assert found.window.holdout_partitions == ["2026-04"]
    assert found.window.holdout_rows == len(judging(found)) == 8
    assert "old" not in judging(found)


def test_such_groups_are_not_in_the_holdout_of_a_pending_candidate(
    run_probe: Look, tree: Path
) -> None:
    waiting = {**CURSOR, "candidateTrainedThrough": "2026-04-01T00:00:00Z"}
    found = run_probe(tree, columns=COLUMNS, partition=TREE, probe=waiting)
    assert found.window.holdout_rows == 8
    assert "old" not in judging(found)


def test_a_partition_before_the_cursor_without_a_group_column_has_no_groups(
    run_probe: Look, tree: Path, months: dict[int, Any], write_csv: Write
) -> None:
    rows = [{name: row[name] for name in row if name != "list"} for row in months[1]]
    write_csv(tree / "month=2026-01" / "a.csv", rows)
    assert "old" in judging(run_probe(tree, columns=COLUMNS, partition=TREE, probe=CURSOR))


def test_a_damaged_partition_before_the_cursor_is_refused_if_groups_are_read(
    run_probe: Look, tree: Path
) -> None:
    (tree / "month=2026-01" / "a.csv").write_bytes(b"")
    assert run_probe(tree, partition=TREE, probe=CURSOR).window is not None
    with pytest.raises(Refused, match=r"month=2026-01/a.csv"):
        run_probe(tree, columns=COLUMNS, partition=TREE, probe=CURSOR)


def test_a_quarantined_partition_before_the_cursor_is_not_read(run_probe: Look, tree: Path) -> None:
    (tree / "month=2026-01" / "a.csv").write_bytes(b"")
    asked = {**CURSOR, "quarantined": ["2026-01"]}
    assert run_probe(tree, columns=COLUMNS, partition=TREE, probe=asked).window is not None
