"""Unreadable files are refused with file, line and what to do, without their text."""

from __future__ import annotations

import gzip
import json
import os
import resource
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from springtide_trainer.data.snapshots import freeze as freezing
from springtide_trainer.data.source.files import DataFile
from springtide_trainer.data.source.readers.parquet_rows import read_parquet
from springtide_trainer.errors import Refused
from springtide_trainer.stages import probe as probing
from springtide_trainer.stages.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_api.contract import RunFile
    from springtide_trainer.storage import Home

    Refuse = Callable[..., tuple[str, str, str]]

HEADER = "at,query,item,clicked\n"
GOOD = "2026-01-01 12:00:00,shoe,sneaker,1\n"


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.survives(
    "Data", "a CSV row with more fields than the header", "refused with file, line and both counts"
)
def test_a_row_with_a_wrong_number_of_fields_is_refused_with_its_line(
    refuse: Refuse, tmp_path: Path
) -> None:
    bad = "2026-01-02 12:00:00,secret words,with, a comma,1\n"
    assert refuse(written(tmp_path / "a.csv", HEADER + GOOD + bad)) == (
        "RaggedRow",
        "data.source",
        "'a.csv' line 3: 5 fields, but the header has 4; quote commas in texts",
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"text": "clicked"},
        {"textPair": "clicked"},
        {"text": None, "textPair": None, "features": ["query", "clicked"]},
    ],
)
def test_a_label_that_is_also_an_input_is_refused(
    refuse: Refuse, tmp_path: Path, columns: dict[str, object]
) -> None:
    source = written(tmp_path / "a.csv", HEADER + GOOD)
    reason, field, message = refuse(source, columns=columns)
    assert (reason, field) == ("LabelIsFeature", "spec.data.source.columns.label")
    assert message.startswith("column 'clicked' is both the label and an input of the model")


@pytest.mark.survives(
    "Data", "text that is not UTF-8", "refused with file, line and byte, the text is not repeated"
)
def test_invalid_utf8_is_refused_with_its_line(refuse: Refuse, tmp_path: Path) -> None:
    bad = "2026-01-02 12:00:00,caf\xe9,cup,1\n".encode("latin-1")
    assert refuse(written(tmp_path / "a.csv", (HEADER + GOOD).encode() + bad)) == (
        "NotUtf8",
        "data.source",
        "'a.csv' line 3: byte 24 is not valid UTF-8; write the file in UTF-8",
    )


@pytest.mark.survives("Data", "a truncated gzip file", "refused with file and line")
def test_a_truncated_gzip_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + GOOD * 1000).encode())
    reason, field, message = refuse(written(tmp_path / "a.csv.gz", whole[:-20]))
    assert (reason, field) == ("TruncatedFile", "data.source")
    assert message.startswith("'a.csv.gz' line ")
    assert message.endswith(": the gzip stream is truncated; deliver the whole file")


@pytest.mark.parametrize("form", ["CSV", "JSONL"])
def test_a_gz_file_of_0_bytes_is_not_a_file_without_rows(
    refuse: Refuse, tmp_path: Path, form: str
) -> None:
    assert refuse(written(tmp_path / "a.gz", b""), format=form) == (
        "TruncatedFile",
        "data.source",
        "'a.gz': named .gz but has 0 bytes, and gzip of nothing has some; deliver the whole file",
    )


def test_a_gz_file_that_is_not_gzip_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    assert refuse(written(tmp_path / "a.csv.gz", HEADER + GOOD)) == (
        "CorruptFile",
        "data.source",
        "'a.csv.gz': named .gz but not a gzip stream; compress it, or remove .gz from its name",
    )


def test_a_gzip_with_a_flipped_bit_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    content = bytearray(gzip.compress((HEADER + GOOD * 1000).encode()))
    content[-6] ^= 16
    assert refuse(written(tmp_path / "a.csv.gz", bytes(content))) == (
        "CorruptFile",
        "data.source",
        "'a.csv.gz' line 1,002: the gzip stream is damaged; deliver the file again",
    )


@pytest.mark.survives(
    "Data", "a file of 0 bytes", "refused with its name and its number of bytes or rows"
)
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("CSV", "'empty': the file is empty (no header line); deliver it again"),
        ("Parquet", "'empty' has 0 bytes; deliver it again"),
    ],
)
def test_a_file_of_0_bytes_is_refused(
    refuse: Refuse, tmp_path: Path, form: str, expected: str
) -> None:
    found = refuse(written(tmp_path / "empty", b""), format=form)
    assert found == ("EmptyFile", "data.source", expected)


@pytest.mark.survives("Data", "a truncated Parquet file", "refused with its name and its size")
@pytest.mark.parametrize("left", [1, 100, -9, -1])
def test_a_truncated_parquet_file_is_refused(refuse: Refuse, tmp_path: Path, left: int) -> None:
    pq.write_table(pa.table({"at": ["2026-01-01"]}), tmp_path / "whole.parquet")
    half = (tmp_path / "whole.parquet").read_bytes()[:left]
    assert refuse(written(tmp_path / "half.parquet", half), format="Parquet") == (
        "CorruptFile",
        "data.source",
        f"'half.parquet': {len(half)} bytes that are not a complete Parquet file; deliver it again",
    )


def test_an_error_of_the_disk_does_not_blame_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"at": ["2026-01-01"]}), path)
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            next(read_parquet(DataFile(path, path.name), {}, ["at"]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))


@pytest.mark.survives(
    "Data", "a column that is missing", "refused with its field and the existing columns"
)
@pytest.mark.parametrize("form", ["CSV", "JSONL", "Parquet"])
def test_a_missing_column_is_refused_with_its_field_and_the_columns_found(
    refuse: Refuse, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "clicks"
    row = {"at": "2026-01-01", "query": "a", "item": "b", "label": "1"}
    match form:
        case "CSV":
            written(path, ",".join(row) + "\n")
        case "JSONL":
            written(path, '{"at": "2026-01-01", "query": "a", "item": "b", "label": 1}\n')
        case "Parquet":
            pq.write_table(pa.table({name: [value] for name, value in row.items()}), path)
    assert refuse(path, format=form) == (
        "MissingColumn",
        "data.source.columns.label",
        "'clicks' has no column 'clicked'; it has 'at', 'query', 'item', 'label'; use one of these "
        "or add the column",
    )


def test_a_missing_feature_or_filter_column_is_refused_with_its_field(
    refuse: Refuse, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", HEADER + GOOD)
    columns = {"text": None, "textPair": None, "features": ["query", "price"]}
    assert refuse(path, columns=columns)[1] == "data.source.columns.features[1]"
    judged = {"filter": {"column": "random", "equals": "1"}}
    assert refuse(path, holdout=judged)[1] == "data.holdout.filter.column"


def test_a_duplicated_column_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    assert refuse(written(tmp_path / "a.csv", "at,query,item,clicked,query\n")) == (
        "DuplicateColumn",
        "data.source.columns.text",
        "'a.csv' has 2 columns 'query'; rename all but one",
    )


def test_a_folder_without_read_permission_is_refused_with_its_path(
    run_of: Callable[..., RunFile], home: Home, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    run = run_of(written(private / "a.csv", HEADER + GOOD))
    private.chmod(0)
    was = os.geteuid()
    os.seteuid(65534 if was == 0 else was)
    try:
        with pytest.raises(Refused, match=r"DataNotReadable: .*make it readable for all users"):
            probe(run, home, tmp_path)
    finally:
        os.seteuid(was)
        private.chmod(0o700)


@pytest.mark.survives("Data", "data that is not there", "refused with the path and its field")
def test_missing_data_is_refused_with_its_path(refuse: Refuse, tmp_path: Path) -> None:
    assert refuse(tmp_path / "none.csv") == (
        "DataNotFound",
        "data.source.uri",
        f"{tmp_path}/none.csv does not exist; deliver the data or change data.source.uri",
    )


@pytest.mark.survives(
    "Data", "a symlink out of the source's folder", "refused with the link's path; not followed"
)
def test_a_link_that_leaves_the_source_is_not_followed(refuse: Refuse, tmp_path: Path) -> None:
    written(tmp_path / "secret.csv", HEADER + GOOD)
    source = tmp_path / "clicks"
    source.mkdir()
    (source / "a.csv").symlink_to(tmp_path / "secret.csv")
    assert refuse(source) == (
        "UnsafePath",
        "data.source.uri",
        f"'{source}/a.csv' is a link to outside {source}; replace it by a copy of the file",
    )


@pytest.mark.survives(
    "Data",
    "a link in the source's folder to a file that does not exist",
    "refused with the link's path; no row is left out without a word",
)
@pytest.mark.parametrize("path", [None, "%Y-%m.csv"])
@pytest.mark.parametrize("target", ["gone.csv", "2026-02.csv"])
def test_a_link_to_nothing_is_refused(
    refuse: Refuse, tmp_path: Path, path: str | None, target: str
) -> None:
    source = tmp_path / "clicks"
    source.mkdir()
    written(source / "2026-01.csv", HEADER + GOOD)
    (source / "2026-02.csv").symlink_to(source / target)
    assert refuse(source, partition={"path": path}) == (
        "DataNotFound",
        "data.source.uri",
        f"'{source}/2026-02.csv' is a link to what does not exist; deliver that, or remove the "
        "link",
    )


@pytest.mark.survives(
    "Data",
    "a file that is removed between listing and reading it",
    "refused with its name; nothing is frozen",
)
@pytest.mark.parametrize("form", ["CSV", "JSONL", "Parquet"])
def test_a_file_that_is_removed_before_its_rows_are_frozen_is_refused_with_its_name(
    refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    rows = [
        {"at": f"2026-0{month}-01", "query": "a", "item": "b", "clicked": clicked}
        for month in (1, 2)
        for clicked in "01"
    ]
    source = tmp_path / "a"
    match form:
        case "CSV":
            written(source, HEADER + "".join(",".join(row.values()) + "\n" for row in rows))
        case "JSONL":
            written(source, "".join(json.dumps(row) + "\n" for row in rows))
        case "Parquet":
            pq.write_table(pa.Table.from_pylist(rows), source)

    def freeze(*given: Any, **options: Any) -> Any:
        source.unlink()
        return freezing.freeze(*given, **options)

    monkeypatch.setattr(probing, "freeze", freeze)
    assert refuse(source, format=form) == (
        "DataChanged",
        "data.source.uri",
        "'a' was removed while the source was read; keep the files of a partition until it was "
        "trained on",
    )


@pytest.mark.survives(
    "Data", "lines that are not JSON objects", "refused with file, line and what is expected"
)
@pytest.mark.parametrize(
    ("line", "reason", "expected"),
    [
        ('{"at": ', "MalformedJson", "invalid JSON (Expecting value at character 9); write one"),
        (
            "[1]",
            "MalformedJson",
            "not a JSON object; write one object with a value for each column",
        ),
        ("[" * 20_000, "MalformedJson", "nested too deeply; write one object"),
        ('{"query": ["a"]}', "UnsupportedType", "column 'query' is a list or an object; write it"),
        ("x" * (2**20 + 1), "LineTooLong", "more than 1,048,576 bytes in one row; is a line break"),
    ],
)
def test_a_bad_json_line_is_refused(
    refuse: Refuse, tmp_path: Path, line: str, reason: str, expected: str
) -> None:
    found = refuse(written(tmp_path / "a.jsonl", line + "\n"), format="JSONL")
    assert found[:2] == (reason, "data.source")
    assert found[2].startswith(f"'a.jsonl' line 1: {expected}")


def test_an_incomplete_surrogate_pair_in_json_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    line = '{"at": "2026-01-01", "query": "\\ud800", "item": "b", "clicked": 1}\n'
    assert refuse(written(tmp_path / "a.jsonl", line), format="JSONL") == (
        "NotUtf8",
        "data.source",
        "'a.jsonl' line 1: column 'query' has a \\u escape that is an incomplete surrogate pair; "
        "write the text in UTF-8",
    )


def test_an_unclosed_quote_and_a_huge_field_are_refused(refuse: Refuse, tmp_path: Path) -> None:
    for cell in ('"open', "x" * 200_000):
        found = refuse(written(tmp_path / "a.csv", HEADER + f"2026-01-01,{cell},b,1\n"))
        assert found[:2] == ("MalformedCsv", "data.source")
        assert "'a.csv' line 2: " in found[2]
        assert "close every quote" in found[2]
