"""The same data in every format and layout of a source."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from springtide_trainer.data.snapshots.frozen_rows import inputs, read_rows
from springtide_trainer.data.source import files
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Look = Callable[..., Any]
    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]

PEOPLE = {"entity": "shopper", "group": "list"}


def test_equal_rows_have_one_digest_whatever_files_they_came_from(
    run_probe: Look, clicks: Clicks, write_csv: Write, write_jsonl: Write, tmp_path: Path
) -> None:
    rows = clicks(1, 2, 3)
    backwards = [dict(reversed(row.items())) for row in reversed(rows)]
    typed = [
        {**row, "at": datetime.fromisoformat(row["at"] + "Z"), "clicked": int(row["clicked"])}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(typed), tmp_path / "typed.parquet")
    for month in (1, 2, 3):
        write_csv(tmp_path / "folder" / f"part-{month}", rows[10 * month - 10 : 10 * month])
        name = f"month=2026-{month:02}/part-0.csv.gz"
        write_csv(tmp_path / "tree" / name, rows[10 * month - 10 : 10 * month])
        write_csv(tmp_path / "files" / f"{month:02}-2026.csv", rows[10 * month - 10 : 10 * month])
    found = [
        run_probe(write_csv(tmp_path / "a.csv", rows), columns=PEOPLE),
        run_probe(write_csv(tmp_path / "a.csv.gz", backwards), columns=PEOPLE),
        run_probe(write_jsonl(tmp_path / "a.jsonl", backwards), format="JSONL", columns=PEOPLE),
        run_probe(tmp_path / "typed.parquet", format="Parquet", columns=PEOPLE),
        run_probe(tmp_path / "folder", columns=PEOPLE),
        run_probe(tmp_path / "tree", partition={"path": "month=%Y-%m"}, columns=PEOPLE),
        run_probe(tmp_path / "files", partition={"path": "%m-%Y.csv"}, columns=PEOPLE),
    ]
    assert [each.reason for each in found] == ["WindowReady"] * 7
    assert len({each.window.digest for each in found}) == 1
    assert found[0].window.partitions == ["2026-01", "2026-02"]
    assert found[0].window.holdout_partitions == ["2026-03"]


def test_lists_of_labels_are_read_like_joined_labels(
    run_probe: Look, clicks: Clicks, write_csv: Write, write_jsonl: Write, tmp_path: Path
) -> None:
    names = [["new", "a, b"], [], ["new"], ["größe"]]
    lists = [{**row, "clicked": names[at % 4]} for at, row in enumerate(clicks(1, 2) * 20)]
    joined = [{**row, "clicked": "|".join(row["clicked"])} for row in lists]
    pq.write_table(pa.Table.from_pylist(lists), tmp_path / "a.parquet")
    asked = {"labels": ["new", "a, b", "größe"], "model": {"classification": {"multiLabel": True}}}
    found = [
        run_probe(write_csv(tmp_path / "a.csv", joined), **asked),
        run_probe(write_jsonl(tmp_path / "a.jsonl", lists), format="JSONL", **asked),
        run_probe(tmp_path / "a.parquet", format="Parquet", **asked),
    ]
    assert len({each.window.digest for each in found}) == 1
    assert read_rows(local_path(found[0].window.manifest), "train")["label"][0].as_py() == "110"


def test_frozen_rows_have_the_columns_that_training_reads(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    rows = [{**row, "worth": "0.5"} for row in clicks(1, 2)]
    columns = {**PEOPLE, "weight": "worth"}
    found = run_probe(write_csv(tmp_path / "a.csv", rows), columns=columns)
    table = read_rows(local_path(found.window.manifest), "train")
    assert table.schema.remove_metadata().equals(
        pa.schema(
            [
                ("text", pa.string()),
                ("text_pair", pa.string()),
                ("label", pa.string()),
                ("entity", pa.string()),
                ("group", pa.string()),
                ("weight", pa.float64()),
                ("timestamp", pa.timestamp("us", "UTC")),
                ("partition", pa.string()),
            ]
        )
    )
    first = table.slice(0, 1).to_pylist()[0]
    assert first == {
        "text": "red shoe 0",
        "text_pair": "sneaker, size 1",
        "label": "0",
        "entity": "s3",
        "group": "l1-0",
        "weight": 0.5,
        "timestamp": datetime(2026, 1, 1, 12, tzinfo=UTC),
        "partition": "2026-01",
    }
    assert inputs(table)["text_pair"] == ["sneaker, size 1"] * 10


def test_features_are_frozen_by_name_and_null_becomes_empty(
    run_probe: Look, write_jsonl: Write, clicks: Clicks, tmp_path: Path
) -> None:
    rows = [
        {"at": row["at"], "clicked": at % 2 == 1, "price": price, "title": row["item"]}
        for at, (row, price) in enumerate(zip(clicks(1, 2), [9.0, 9.5, None, 3] * 5, strict=True))
    ]
    columns = {"text": None, "textPair": None, "features": ["title", "price"]}
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = run_probe(path, format="JSONL", columns=columns, labels=["false", "true"])
    table = read_rows(local_path(found.window.manifest), "holdout")
    assert set(inputs(table)) == {"title", "price"}
    assert inputs(table)["price"] == ["", "3", "9", "9.5", "", "3", "9", "9.5", "", "3"]
    assert table["entity"].to_pylist()[:2] == ["holdout-0", "holdout-1"]


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-31T23:30:00Z",
        "2026-01-31t23:30:00.000001z",
        "2026-02-01T00:30:00+01:00",
        "2026-01-31 18:30:00-05:00",
        "2026-01-31 23:30:00",
        "2026-01-31 23:30",
        "2026-01-31",
    ],
)
def test_mixed_zones_are_converted_to_utc_and_no_zone_means_utc(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path, written: str
) -> None:
    rows = [*clicks(1, 2), {**clicks(1)[0], "at": written}]
    found = run_probe(write_csv(tmp_path / "a.csv", rows))
    assert (found.window.rows, found.window.holdout_rows) == (11, 10)


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("ns"),
        pa.timestamp("s", "UTC"),
        pa.timestamp("ms", "America/New_York"),
        pa.date32(),
    ],
)
def test_native_parquet_timestamps_are_read(
    run_probe: Look, clicks: Clicks, tmp_path: Path, kind: pa.DataType
) -> None:
    rows = clicks(1, 2)
    stamps = pa.array([datetime.fromisoformat(row["at"] + "Z") for row in rows]).cast(
        pa.timestamp("us", "UTC")
    )
    stamps = (
        stamps.cast(pa.timestamp("us")).cast(kind, safe=False)
        if kind.equals(pa.date32()) or kind.tz is None
        else stamps.cast(kind, safe=False)
    )
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.set_column(0, "at", stamps), tmp_path / "a.parquet")
    found = run_probe(tmp_path / "a.parquet", format="Parquet")
    assert (found.window.rows, found.window.holdout_rows) == (10, 10)


def test_texts_keep_commas_quotes_line_breaks_and_all_scripts(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    text = 'a "quoted", comma;\nsecond line: 日本語 🙂'
    rows = [{**row, "query": text} for row in clicks(1, 2)]
    found = run_probe(write_csv(tmp_path / "a.csv", rows))
    table = read_rows(local_path(found.window.manifest), "train")
    assert set(table["text"].to_pylist()) == {text}


def test_a_byte_order_mark_and_blank_lines_are_ignored(run_probe: Look, tmp_path: Path) -> None:
    rows = "".join(f"2026-0{month}-01,a,b,{label}\n\n" for month in (1, 2) for label in (0, 1))
    path = tmp_path / "a.csv"
    path.write_text("at,query,item,clicked\n" + rows, encoding="utf-8-sig")
    assert run_probe(path).window.rows == 2


def test_only_new_complete_and_not_quarantined_partitions_of_a_tree_are_read(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    for month in (1, 2, 3, 4, 5, 6):
        write_csv(tree / f"2026/{month:02}/a.csv", clicks(month))
        if month != 5:
            (tree / f"2026/{month:02}/_SUCCESS").touch()
    for unread in ("2026/01/a.csv", "2026/02/a.csv", "2026/05/a.csv", "2026/06/a.csv"):
        (tree / unread).write_bytes(b"\xff")
    (tree / "README").write_text("not a partition", encoding="utf-8")
    found = run_probe(
        tree,
        partition={"path": "%Y/%m", "successMarker": True},
        probe={"cursor": "2026-02-01T00:00:00Z", "quarantined": ["2026-02"]},
    )
    assert found.window.partitions == ["2026-03"]
    assert found.window.holdout_partitions == ["2026-04"]
    assert found.newest_partition == "2026-04"


def test_a_partition_without_its_marker_is_not_read(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    for month in (1, 2):
        write_csv(tmp_path / f"tree/2026-{month:02}/a.csv", clicks(month))
    (tmp_path / "tree/2026-01/_SUCCESS").touch()
    partition = {"path": "%Y-%m", "successMarker": True}
    found = run_probe(tmp_path / "tree", partition=partition)
    assert found.reason == "NotComplete"
    assert found.message.startswith("1 of 2 complete partitions; 2026-02 has no _SUCCESS file")
    (tmp_path / "tree/2026-02/_SUCCESS").touch()
    assert run_probe(tmp_path / "tree", partition=partition).reason == "WindowReady"


@pytest.mark.survives(
    "Data",
    "a probe that lists a partition while its writer ends, or begins again",
    "the partition is not complete for this probe; the next one reads all of its files",
)
@pytest.mark.parametrize("begins_again", [False, True])
def test_a_partition_that_changes_while_it_is_listed_is_not_complete(
    run_probe: Look,
    clicks: Clicks,
    write_csv: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begins_again: bool,
) -> None:
    for month in (1, 2, 3):
        write_csv(tmp_path / f"tree/2026-{month:02}/a.csv", clicks(month)[:5])
        if month != 2 or begins_again:
            (tmp_path / f"tree/2026-{month:02}/_SUCCESS").touch()
    february, listed = tmp_path / "tree/2026-02", files._files

    def changing(folder: Path, root: Path) -> list[Any]:
        if folder == february and begins_again:
            (february / "_SUCCESS").unlink()
            (february / "a.csv").unlink()
        found = list(listed(folder, root))
        if folder == february and not begins_again:
            write_csv(february / "b.csv", clicks(2)[5:])
            (february / "_SUCCESS").touch()
        return found

    partition = {"path": "%Y-%m", "successMarker": True}
    with monkeypatch.context() as patched:
        patched.setattr(files, "_files", changing)
        found = run_probe(tmp_path / "tree", partition=partition)
    assert found.reason == "NotComplete"
    assert "2026-02 has no _SUCCESS file" in found.message
    write_csv(february / "a.csv", clicks(2)[:5])
    write_csv(february / "b.csv", clicks(2)[5:])
    (february / "_SUCCESS").touch()
    assert run_probe(tmp_path / "tree", partition=partition).window.rows == 5 + 10


def test_a_tree_without_a_matching_path_is_reported(run_probe: Look, tmp_path: Path) -> None:
    (tmp_path / "tree/dt=2026-01").mkdir(parents=True)
    found = run_probe(tmp_path / "tree", partition={"path": "month=%Y-%m"})
    assert found.reason == "NoNewData"
    assert "matches month=%Y-%m" in found.message


def test_a_row_outside_the_partition_of_its_path_is_refused(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    write_csv(tmp_path / "tree/2026-01/a.csv", [*clicks(1), *clicks(2)])
    with pytest.raises(Refused) as caught:
        run_probe(tmp_path / "tree", partition={"path": "%Y-%m"})
    assert caught.value.failure.reason == "OutsidePartition"
    assert "'2026-01/a.csv' line 12" in caught.value.failure.message


@pytest.mark.parametrize(
    ("period", "path", "reason"),
    [
        ("Month", "%Y", "InvalidPattern"),
        ("Day", "%Y-%m", "InvalidPattern"),
        ("Month", "%Y-%b", "InvalidPattern"),
        ("Month", "dt=%Y-%m-%d", "WrongPartition"),
    ],
)
def test_a_path_pattern_must_identify_the_partition(
    run_probe: Look, tmp_path: Path, period: str, path: str, reason: str
) -> None:
    (tmp_path / "tree/dt=2026-01-05").mkdir(parents=True)
    with pytest.raises(Refused) as caught:
        run_probe(tmp_path / "tree", partition={"period": period, "path": path})
    assert caught.value.failure.reason == reason
    assert caught.value.failure.field == "data.source.partition.path"


@pytest.mark.survives(
    "Data",
    "partitions named without leading zeros, such as month=3",
    "refused with the path; no rows are passed over",
)
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("year=%Y/month=%m", "year=2026/month=3"),
        ("%Y-%m.csv", "2026-3.csv"),
        ("%Y-%m", "2026-3"),
    ],
)
def test_a_partition_without_leading_zeros_is_refused(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path, path: str, name: str
) -> None:
    for month in ("10", "11"):
        write_csv(
            tmp_path / "tree" / datetime(2025, int(month), 1, tzinfo=UTC).strftime(path),
            [{**row, "at": f"2025-{month}-01"} for row in clicks(1)],
        )
    (tmp_path / "tree" / name).mkdir(parents=True)
    with pytest.raises(Refused, match="without leading zeros") as caught:
        run_probe(tmp_path / "tree", partition={"path": path})
    assert caught.value.failure.reason == "WrongPartition"
    assert str(tmp_path / "tree" / name) in caught.value.failure.message


def test_names_in_which_numbers_are_not_separated_are_not_read_otherwise(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    """202601 is a month beside the days, and not the day 2026-0-1."""
    for day in (1, 2):
        rows = [{**row, "at": f"2026-01-0{day}"} for row in clicks(1)]
        write_csv(tmp_path / f"tree/2026010{day}/a.csv", rows)
    (tmp_path / "tree/202601").mkdir()
    found = run_probe(tmp_path / "tree", partition={"period": "Day", "path": "%Y%m%d"})
    assert found.window.partitions == ["2026-01-01"]


@pytest.mark.survives(
    "Data",
    "a folder such as dt=9999-12-31 among the partitions",
    "refused with its path and the last year allowed",
)
@pytest.mark.parametrize(
    ("period", "path", "name"),
    [
        ("Month", "%Y-%m", "9999-12"),
        ("Week", "%G-W%V", "9999-W52"),
        ("Day", "dt=%Y-%m-%d", "dt=9999-12-31"),
        ("Hour", "%Y%m%d/%H", "99991231/23"),
    ],
)
def test_a_partition_at_the_end_of_all_dates_is_refused(
    run_probe: Look, tmp_path: Path, period: str, path: str, name: str
) -> None:
    (tmp_path / "tree" / name).mkdir(parents=True)
    with pytest.raises(Refused) as caught:
        run_probe(tmp_path / "tree", partition={"period": period, "path": path})
    assert caught.value.failure.reason == "WrongPartition"
    assert caught.value.failure.message == (
        f"{name!r} is not a valid date (the year must be at most 9998)"
    )


@pytest.mark.parametrize(
    ("period", "path", "days"),
    [
        ("Week", "%G-W%V", {"2026-W01": 2, "2026-W02": 7}),
        ("Day", "y=%Y/d=%j", {"y=2026/d=001": 1, "y=2026/d=002": 2}),
        ("Hour", "%Y%m%d/%H", {"20260101/12": 1, "20260102/12": 2}),
    ],
)
def test_paths_of_every_period_are_parsed(
    run_probe: Look,
    clicks: Clicks,
    write_csv: Write,
    tmp_path: Path,
    period: str,
    path: str,
    days: dict[str, int],
) -> None:
    for name, day in days.items():
        rows = [{**row, "at": f"2026-01-{day:02} 12:30:00"} for row in clicks(1)]
        write_csv(tmp_path / "tree" / name / "a.csv", rows)
    found = run_probe(tmp_path / "tree", partition={"period": period, "path": path})
    assert (found.window.rows, found.window.holdout_rows) == (10, 10)


def test_a_link_that_leaves_the_source_is_refused_and_one_within_is_followed(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    secret = write_csv(tmp_path / "elsewhere.csv", clicks(1, 2))
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.csv").symlink_to(secret)
    with pytest.raises(Refused) as caught:
        run_probe(source)
    assert caught.value.failure.reason == "UnsafePath"
    with pytest.raises(Refused):
        run_probe(source / "a.csv")
    (source / "a.csv").unlink()
    write_csv(source / "_kept.csv", clicks(1, 2))
    (source / "b.csv").symlink_to(source / "_kept.csv")
    assert run_probe(source).window.rows == 10
    (source / "round").symlink_to(source)
    with pytest.raises(Refused, match="folders deep"):
        run_probe(source)
