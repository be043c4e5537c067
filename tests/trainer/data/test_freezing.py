"""Frozen rows are immutable, addressed by digest, and complete for their window."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.data.snapshots.frozen_rows import read_rows, verify
from springtide_trainer.data.source import index
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Look = Callable[..., Any]
    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]


def test_the_digest_covers_window_holdout_quarantine_and_rows(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    found = run_probe(
        write_csv(tmp_path / "a.csv", clicks(1, 2, 3)), probe={"quarantined": ["2026-02"]}
    )
    folder = local_path(found.window.manifest)
    text = (folder / "manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(text).hexdigest() == found.window.digest
    assert folder.name == found.window.digest.replace(":", "-")
    manifest = json.loads(text)
    assert (manifest["from"], manifest["to"]) == (None, "2026-02-01T00:00:00+00:00")
    assert manifest["holdout"]["to"] == "2026-04-01T00:00:00+00:00"
    assert manifest["quarantined"] == ["2026-02"]
    assert [(one["partition"], one["rows"]) for one in manifest["rows"]["train"]] == [
        ("2026-01", 10)
    ]
    verify(folder, found.window.digest)


def test_a_second_probe_finds_the_same_window_and_writes_nothing(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", clicks(1, 2))
    first = run_probe(path)
    folder = local_path(first.window.manifest)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert run_probe(path, now="2026-06-02T00:00:00Z") == first
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"query": "another"},
        {"clicked": "1"},
        {"at": "2026-01-01 12:00:01"},
        {"shopper": "s99"},
    ],
)
def test_a_changed_row_gives_another_digest(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path, change: dict[str, str]
) -> None:
    rows = clicks(1, 2)
    columns = {"entity": "shopper"}
    before = run_probe(write_csv(tmp_path / "a.csv", rows), columns=columns)
    rows[0] |= change
    after = run_probe(write_csv(tmp_path / "b.csv", rows), columns=columns)
    assert before.window.digest != after.window.digest


def test_a_quarantined_partition_or_another_reserve_gives_another_digest(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", clicks(1, 2))
    columns = {"entity": "shopper"}
    digests = {
        run_probe(path, columns=columns).window.digest,
        run_probe(path, columns=columns, probe={"quarantined": ["2027-01"]}).window.digest,
        run_probe(path, columns=columns, reserve="0.0001").window.digest,
    }
    assert len(digests) == 3


def test_duplicated_rows_are_kept(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    rows = clicks(1, 2)
    found = run_probe(write_csv(tmp_path / "a.csv", rows + rows[:3]))
    assert found.window.rows == 13
    entities = read_rows(local_path(found.window.manifest), "train")["entity"].to_pylist()
    assert len(set(entities)) == 13


def test_reserved_entities_are_frozen_in_their_own_part(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", clicks(1, 2, a_month=28))
    found = run_probe(path, columns={"entity": "shopper"}, reserve="0.5")
    folder = local_path(found.window.manifest)
    parts = {
        part: set(read_rows(folder, part)["entity"].to_pylist())
        for part in ("train", "holdout", "reserved")
    }
    assert parts["train"].isdisjoint(parts["reserved"])
    assert parts["holdout"] == parts["train"] | parts["reserved"]
    assert found.window.rows + found.window.reserved_rows == 28
    assert found.window.reserved_rows > 0


def test_the_holdout_of_a_pending_candidate_is_frozen_without_training_rows(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    waiting = {"candidate_trained_through": "2026-02-01T00:00:00Z", "quarantined": ["2026-02"]}
    path = write_csv(tmp_path / "a.csv", clicks(1, 2, 3, 4))
    found = run_probe(path, probe=waiting)
    assert found.window.to is None
    assert found.window.holdout_partitions == ["2026-03", "2026-04"]
    assert (found.window.rows, found.window.holdout_rows) == (0, 20)
    assert found.window.holdout_positives == 10
    folder = local_path(found.window.manifest)
    assert len(read_rows(folder, "train")) == 0
    verify(folder, found.window.digest)


def test_rows_that_differ_from_their_manifest_are_refused(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", clicks(1, 2))
    folder = local_path(run_probe(path).window.manifest)
    other = run_probe(path, window={"minRows": 1}, probe={"quarantined": ["2027-01"]}).window
    with pytest.raises(Refused, match="DigestMismatch"):
        verify(folder, other.digest)
    damaged = local_path(other.manifest)
    (damaged / "train.parquet").write_bytes((damaged / "holdout.parquet").read_bytes())
    with pytest.raises(Refused, match="does not match its manifest"):
        verify(damaged, other.digest)
    (damaged / "train.parquet").unlink()
    with pytest.raises(Refused, match="CorruptRows"):
        verify(damaged, other.digest)


def test_data_that_changes_while_it_is_read_is_refused(
    run_probe: Look,
    clicks: Clicks,
    write_csv: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_csv(tmp_path / "a.csv", clicks(1, 2))
    reserved = index.reserved

    def deliver_more(*asked: Any) -> list[bool]:
        write_csv(path, clicks(1, 2, 3))
        return reserved(*asked)

    monkeypatch.setattr(index, "reserved", deliver_more)
    with pytest.raises(Refused, match="DataChanged"):
        run_probe(path, columns={"entity": "shopper"}, reserve="0.0001")


def test_the_output_fits_a_termination_message_for_any_number_of_partitions(
    run_probe: Look, write_csv: Write, tmp_path: Path
) -> None:
    rows = [
        {
            "at": f"2026-0{month}-{day:02}T{hour:02}:00:00Z",
            "query": "",
            "item": "",
            "clicked": label,
        }
        for month in (1, 2)
        for day in range(1, 29)
        for hour in range(24)
        for label in (0, 1)
    ]
    judging = {"type": "LatestPartitions", "latestPartitions": {"partitions": 366}}
    path = write_csv(tmp_path / "a.csv", rows)
    found = run_probe(path, partition={"period": "Hour"}, holdout={"strategy": judging})
    assert len(found.model_dump_json(by_alias=True)) < 3000
    assert found.window.holdout_partitions[-1] == "2026-02-28T23"
    assert found.window.partitions[-1] == "2026-02-13T17"
    assert found.window.holdout_rows == 366 * 2


@pytest.mark.survives(
    "Data",
    "a flipped bit anywhere in a file of frozen rows",
    "refused as damaged or by its digest, or the rows that are read are the same",
)
def test_a_flipped_bit_in_a_file_of_rows_is_refused_or_changes_no_row(
    run_probe: Look, clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    window = run_probe(write_csv(tmp_path / "a.csv", clicks(1, 2))).window
    folder = local_path(window.manifest)
    rows, file = read_rows(folder, "train"), folder / "train.parquet"
    content = file.read_bytes()
    refused = 0
    for place in range(0, len(content), 3):
        flipped = bytes([content[place] ^ 1 << place % 8])
        file.write_bytes(content[:place] + flipped + content[place + 1 :])
        try:
            verify(folder, window.digest)
        except Refused as damaged:
            assert damaged.failure.reason in {"CorruptRows", "DigestMismatch"}  # noqa: PT017
            refused += 1
        else:
            assert read_rows(folder, "train") == rows
    assert refused > 100
