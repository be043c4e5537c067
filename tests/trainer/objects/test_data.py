"""Rows are read from an object store as from a disk."""

from __future__ import annotations

import csv
import gzip
import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trainer.data.conftest import run_file
from trainer.objects.conftest import run

from springtide_api.contract import ExitCode
from springtide_trainer.data.source.files import file_sets
from springtide_trainer.data.source.stream import read_all
from springtide_trainer.errors import Refused
from springtide_trainer.objects import tree
from springtide_trainer.objects.folders import COMMIT
from springtide_trainer.objects.store import Store
from springtide_trainer.stages.probe import probe
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.update.data import Data

pytestmark = pytest.mark.object_store

ROWS = [
    {"at": f"2026-0{month}-{day:02} 12:00:00", "query": f"shoe {day}, \"red\"", "item": "x",
     "clicked": str(day % 2)}
    for month in (1, 2, 3)
    for day in range(1, 29)
]  # fmt: skip


def as_csv(rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=10)
    return sink.getvalue().to_pybytes()


def as_jsonl(rows) -> bytes:
    import json

    return "".join(json.dumps(row) + "\n" for row in rows).encode()


WRITERS = {"CSV": as_csv, "Parquet": as_parquet, "JSONL": as_jsonl}


def asked(uri: str, tmp_path: Path, **changes):
    run = run_file(tmp_path / "source", tmp_path / "home", **changes)
    data = run.recipe.data
    source = data.source.model_copy(update={"uri": uri})
    recipe = run.recipe.model_copy(update={"data": data.model_copy(update={"source": source})})
    return run.model_copy(update={"recipe": recipe})


@pytest.fixture
def look(tmp_path):
    """Probe a source; the storage is a folder."""
    count = iter(range(100))

    def look(uri: str, **changes):
        scratch = tmp_path / "home/tmp" / str(next(count))
        scratch.mkdir(parents=True)
        return probe(asked(uri, tmp_path, **changes), Home(tmp_path / "home"), scratch)

    return look


@pytest.mark.parametrize("form", ["CSV", "Parquet", "JSONL"])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_rows_of_every_format_are_those_of_a_disk(bucket, look, tmp_path, form, zipped):
    if zipped and form == "Parquet":
        pytest.skip("Parquet is compressed inside")
    content = WRITERS[form](ROWS)
    name = f"clicks.{form.lower()}" + (".gz" if zipped else "")
    content = gzip.compress(content) if zipped else content
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_bytes(content)
    bucket.store.put(f"clicks/{name}", content)
    on_disk = look((tmp_path / "source").as_uri(), format=form).window
    for uri in (f"{bucket.uri}/clicks", f"{bucket.uri}/clicks/{name}"):
        found = look(uri, format=form).window
        assert found.rows == on_disk.rows == 56
        assert found.digest == on_disk.digest


def test_partitions_are_found_by_their_keys_with_their_markers(bucket, look):
    for month in (1, 2, 3):
        rows = [row for row in ROWS if row["at"].startswith(f"2026-0{month}")]
        bucket.store.put(f"clicks/dt=2026-0{month}/a.csv", as_csv(rows[:9]))
        bucket.store.put(f"clicks/dt=2026-0{month}/deep/b.csv", as_csv(rows[9:]))
        bucket.store.put(f"clicks/dt=2026-0{month}/_ignored", b"x")
    bucket.store.put("clicks/readme.txt", b"x")
    uri, path = f"{bucket.uri}/clicks", {"path": "dt=%Y-%m"}
    found = look(uri, partition=path).window
    assert (found.partitions, found.holdout_partitions) == (["2026-01", "2026-02"], ["2026-03"])
    assert found.rows == 56
    marked = path | {"successMarker": True}
    assert look(uri, partition=marked).window is None
    for month in (1, 2):
        bucket.store.put(f"clicks/dt=2026-0{month}/_SUCCESS", b"")
    found = look(uri, partition=marked).window
    assert (found.partitions, found.holdout_partitions) == (["2026-01"], ["2026-02"])


@pytest.mark.survives(
    "Data",
    "folders that a console made in a bucket: empty objects whose names end with a slash",
    "read as folders; one without files is a partition without rows",
)
def test_an_empty_object_that_marks_a_folder_is_that_folder(bucket, look):
    for key in ("clicks", "clicks/2026-01", "clicks/2026-03"):
        bucket.mark_folder(key)
    for month in (1, 2):
        rows = [row for row in ROWS if row["at"].startswith(f"2026-0{month}")]
        bucket.store.put(f"clicks/2026-0{month}/a.csv", as_csv(rows))
    uri = f"{bucket.uri}/clicks"
    found = look(uri, partition={"path": "%Y-%m"}).window
    assert (found.partitions, found.holdout_partitions) == (["2026-01"], ["2026-02"])
    assert look(uri).window.rows == found.rows == 28
    bucket.store.put("clicks/2026-03.csv", b"")
    with pytest.raises(Refused, match=r"EmptyFile: '2026-03\.csv'"):
        look(uri)


def test_a_whole_bucket_is_a_source_whose_files_have_their_names(bucket, look):
    bucket.store.put("2026-01/a.csv", as_csv(ROWS[:28]).replace(b"2026-01-28", b"2026-02-28"))
    with pytest.raises(Refused, match=r"OutsidePartition: '2026-01/a\.csv' line 29: "):
        look(bucket.uri, partition={"path": "%Y-%m"})


def test_an_object_without_an_etag_is_read(bucket, look):
    (bucket.folder / "clicks").mkdir()
    (bucket.folder / "clicks/a.csv").write_bytes(as_csv(ROWS))
    assert [entry.etag for entry in bucket.store.list("clicks")] == [""]
    assert look(f"{bucket.uri}/clicks").window.rows == 56


@pytest.mark.survives(
    "Data",
    "frozen rows in an object store that are damaged",
    "not used: the next probe freezes the rows again",
)
@pytest.mark.parametrize("name", ["train.parquet", COMMIT])
def test_damaged_rows_are_frozen_again(bucket, tmp_path, name):
    bucket.store.put("clicks/a.csv", as_csv(ROWS))
    given = asked(f"{bucket.uri}/clicks", tmp_path)
    given = given.model_copy(update={"home": f"{bucket.uri}/storage/shop/ranker"})

    def frozen(number: int) -> str:
        job = given.model_copy(update={"job": f"ranker-probe-{number}"})
        done = run(job, f"pod-{number}")
        assert done.code == ExitCode.DONE, done.result
        return done.result.probe.window.manifest

    first = frozen(1)
    assert frozen(2) == first
    (key,) = (each for each in bucket.keys("storage/shop/ranker/data") if each.endswith(name))
    content = bytearray(bucket.store.read(key))
    content[len(content) // 2] ^= 0x80
    bucket.store.put(key, bytes(content))
    assert frozen(3) == f"{first}.2"
    assert frozen(4) == f"{first}.2"


def test_a_source_without_objects_is_named(bucket, look):
    with pytest.raises(Refused) as caught:
        look(f"{bucket.uri}/nothing")
    assert caught.value.failure.reason == "DataNotFound"
    assert f"{bucket.uri}/nothing does not exist" in caught.value.failure.message
    assert caught.value.code == ExitCode.INVALID_INPUT


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
def test_an_object_that_is_replaced_between_two_reads_is_refused(
    bucket, tmp_path, monkeypatch, form
):
    monkeypatch.setattr(tree, "BLOCK", 512)
    bucket.store.put("clicks/a", WRITERS[form](ROWS))
    data: Data = asked(f"{bucket.uri}/clicks", tmp_path, format=form).recipe.data
    (found,) = file_sets(data)
    bucket.store.put("clicks/a", WRITERS[form](ROWS[::-1]))
    with pytest.raises(Refused) as caught:
        read_all(found, data)
    assert caught.value.failure.reason == "DataChanged"


def test_the_index_of_an_object_is_kept_until_it_is_replaced(bucket, look, monkeypatch, caplog):
    caplog.set_level("INFO")
    for month in (1, 2, 3):
        rows = [row for row in ROWS if row["at"].startswith(f"2026-0{month}")]
        bucket.store.put(f"clicks/2026-0{month}.csv", as_csv(rows))

    def kept() -> int:
        look(f"{bucket.uri}/clicks", now="2027-06-01T00:00:00Z")
        return [record.kept for record in caplog.records if hasattr(record, "kept")][-1]

    assert (kept(), kept()) == (0, 3)
    bucket.store.put("clicks/2026-02.csv", as_csv(ROWS[28:55]))
    assert kept() == 2


@pytest.mark.survives(
    "Data",
    "a partition in an object store whose listing is late",
    "it is waited for, and used when it is listed",
)
def test_a_partition_that_is_not_listed_yet_is_waited_for(bucket, look, monkeypatch):
    for month in (1, 2, 3, 4):
        rows = [row for row in ROWS if row["at"].startswith(f"2026-0{month}")]
        rows = rows or [{**row, "at": row["at"].replace("2026-03", "2026-04")} for row in ROWS[56:]]
        bucket.store.put(f"clicks/2026-0{month}.csv", as_csv(rows))
    listed = Store.list

    def late(self, prefix):
        return (entry for entry in listed(self, prefix) if "2026-03" not in entry.key)

    uri, asked_of = f"{bucket.uri}/clicks", {"partition": {"path": "%Y-%m.csv"}}
    now = {"now": "2026-05-01T12:00:00Z", "window": {"maxGap": "2000h"}}
    with monkeypatch.context() as patched:
        patched.setattr(Store, "list", late)
        early = look(uri, **asked_of, **now).window
    assert (early.partitions, early.holdout_partitions) == (["2026-01"], ["2026-02"])
    found = look(uri, **asked_of, **now).window
    assert (found.partitions[-1], found.holdout_partitions) == ("2026-03", ["2026-04"])
