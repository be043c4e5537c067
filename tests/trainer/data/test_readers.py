"""The fast readers give the rows, the line numbers and the errors of the row-by-row readers."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from springtide_trainer.data.source import readers
from springtide_trainer.data.source.files import DataFile
from springtide_trainer.data.source.readers import csv_rows, jsonl_rows, parquet_rows
from springtide_trainer.data.source.readers.csv_rows import read_csv
from springtide_trainer.data.source.readers.jsonl_rows import read_jsonl
from springtide_trainer.data.source.readers.lines import Lines, open_lines
from springtide_trainer.data.source.readers.read import read_batches
from springtide_trainer.data.source.readers.rows import batched
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from springtide_trainer.data.source.readers.rows import RowBatch

WANTED = {"a": "data.source.columns.text", "b": "data.source.columns.label"}
BOM = "\ufeff"
TEXTS = st.one_of(
    st.sampled_from(["", "007", "NA", "null", "NULL", "nan", "N/A", "1.0", "true", "#N/A", " x "]),
    st.text(st.sampled_from("ab,;\"'\n\r\t \\/{}[]:0é日🙂\u2028\x00\x1f\ufeff"), max_size=6),
    st.text(max_size=6),
)
SIZES = st.sampled_from([(16, 3, 1), (40, 4, 2), (200, 2, 5), (1 << 22, 16_384, 16_384)])
"""Bytes of a block, rows of a batch, rows that are read one by one after an unusual block."""


def outcome(batches: Iterable[RowBatch]) -> tuple[list[Any], object]:
    """Return the batches, and the error at their end."""
    found: list[Any] = []
    try:
        for batch in batches:
            columns = {name: column.to_pylist() for name, column in batch.columns.items()}
            found.append((columns, batch.numbers.tolist()))
    except Refused as refused:
        failure = refused.failure
        return found, (failure.reason, failure.field, failure.message)
    return found, None


def both(form: str, content: bytes, sizes: tuple[int, int, int], suffix: str = "") -> list[Any]:
    """Return what the fast and the row-by-row reader read."""
    block, size, unusual = sizes

    def chunks(lines: Lines, fast: bool) -> Iterator[pa.RecordBatch]:
        if form == "csv":
            return read_csv(lines, WANTED, list(WANTED), fast=fast, unusual=unusual)
        return read_jsonl(lines, WANTED, fast=fast, first=unusual, unusual=unusual)

    found = []
    with tempfile.TemporaryDirectory() as folder:
        file = DataFile(Path(folder, f"rows.{form}{suffix}"), "rows")
        file.path.write_bytes(content)
        for fast in (True, False):
            with open_lines(file, block) as lines:
                found.append(outcome(batched(chunks(lines, fast), list(WANTED), file, size)))
    return found


@settings(max_examples=300, deadline=None)
@given(
    header=st.permutations(["a", "b", "c"]),
    rows=st.lists(st.lists(TEXTS, min_size=3, max_size=3), max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    start=st.sampled_from(["", BOM]),
    blank=st.sampled_from(["", "\n", "\r\n"]),
    sizes=SIZES,
    zipped=st.booleans(),
)
def test_csv_as_programs_write_it_is_read_alike(
    header, rows, end, quoting, start, blank, sizes, zipped
):
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator=end)
    for row in [header, *rows]:
        writer.writerow(row)
        text.write(blank if row is not header else "")
    content = (start + text.getvalue()).encode(errors="surrogatepass")
    fast, slow = both("csv", gzip.compress(content) if zipped else content, sizes, ".gz" * zipped)
    event("refused" if slow[1] else f"rows: {min(len(rows), 1)}")
    assert fast == slow


ODD_BYTES = (
    b'x|y,z|,|"|""|"x"|\n|\r\n|\r|\xc3\xa9|\xe9|\0| |","|x,y\n|"x\n",y\n|x,y\r\n|\xef\xbb\xbf'
)


@settings(max_examples=500, deadline=None)
@given(
    start=st.sampled_from([b"a,b\n", b'\xef\xbb\xbf"a",b\r\n', b"b,c,a\n", b"a,b\n\n", b""]),
    pieces=st.lists(
        st.sampled_from(ODD_BYTES.split(b"|")),
        max_size=30,
    ),
    sizes=SIZES,
)
def test_any_bytes_as_csv_are_read_or_refused_alike(start, pieces, sizes):
    fast, slow = both("csv", start + b"".join(pieces), sizes)
    event(slow[1][0] if slow[1] else "read")
    assert fast == slow


NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.integers(2**53 - 2, 2**53 + 2),
    st.integers(2**63 - 2, 2**63 + 1),
    st.floats(),
    st.sampled_from([-0.0, 1e-3, 9e-4, 1e15, 1e15 + 0.5, 2.0**53, 1e16, 1e22, 0.1, 1e-7, 5e-324]),
)
VALUES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.just([1]), st.just({"x": "}\n{"}))
COLUMN = st.one_of(
    *(st.just(kind) for kind in (TEXTS, NUMBERS, VALUES)),
    st.just(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))),
    st.just(st.one_of(st.none(), st.floats(0.001, 1e6))),
    st.just(st.booleans()),
    st.just(st.one_of(st.none(), st.lists(st.one_of(TEXTS, st.none()), max_size=3))),
    st.just(st.lists(TEXTS, max_size=3)),
)


@st.composite
def objects(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows whose columns mostly have one type, as programs write them."""
    kinds = {"a": draw(COLUMN), "b": draw(COLUMN), "c": VALUES}
    names = st.lists(st.sampled_from(["a", "b", "c", "a\\"]), unique=True, max_size=4)
    every = draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        chosen = list(kinds) if every else [name for name in draw(names) if name in kinds]
        rows.append({name: draw(kinds[name]) for name in chosen})
    return rows


@settings(max_examples=500, deadline=None)
@given(
    rows=objects(),
    plain=st.booleans(),
    end=st.sampled_from(["\n", "\n", "\r\n", " \n", "\n\n"]),
    start=st.sampled_from(["", "", BOM, "\n"]),
    sizes=SIZES,
    zipped=st.booleans(),
)
def test_json_lines_as_programs_write_them_are_read_alike(rows, plain, end, start, sizes, zipped):
    text = start + "".join(json.dumps(row, ensure_ascii=plain) + end for row in rows)
    content = text.encode(errors="surrogatepass")
    fast, slow = both("jsonl", gzip.compress(content) if zipped else content, sizes, ".gz" * zipped)
    event("refused" if slow[1] else f"rows: {min(len(rows), 1)}")
    assert fast == slow


ODD_LINES = [
    b'{"a":"x","b":1}',
    b'{"a":"y"}{"b":2}',
    b'{"a":"x",\n"b":1}',
    b"{}",
    b"",
    b" ",
    b'{"a":"x","a":"y","b":1}',
    b'{"\\u0061":"z","b":2.5}',
    b'{"a":"\xe9","b":1}',
    b'{"a":"\\ud83d\\ude00","b":3}',
    b'{"a":"\\ude00","b":3}',
    b'{"a":NaN,"b":1}',
    b'{"a":"x","b":1}\0}',
    b'{"a":"\0"}',
    b'{"a":"x","b":' + b"9" * 4301 + b"}",
    b'{"c":' + b"9" * 4301 + b"}",
    b'{"c":' + b"[" * 600 + b"]" * 600 + b"}",
    b'{"c":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"a":1e400,"b":-0}',
    b"[1]",
    b'{"a":01}',
    b'{"a":"x","b":"1"}',
    b'{"a":null,"b":null}',
    b'{"a":{},\n"b":{}}',
    b'{"c":[{}\n{}]}',
    b'{"a":"\\u0000","b":1}',
    b'\xef\xbb\xbf{"a":"x","b":1}',
    b'{"c":"\\ud800","a":"x","b":1}',
    b'{"a":"x","b":1,}',
    b'{"a":"\x1f","b":1}',
]


@settings(max_examples=800, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.sampled_from(ODD_LINES),
            st.lists(
                st.sampled_from([b"{", b"}", b'"a":', b'"x"', b",", b"1", b"\n", b"[", b"]"]),
                max_size=8,
            ).map(b"".join),
        ),
        max_size=8,
    ),
    sizes=SIZES,
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
)
def test_any_lines_as_json_are_read_or_refused_alike(lines, sizes, end, last):
    fast, slow = both("jsonl", end.join(lines) + end * last, sizes)
    event(slow[1][0] if slow[1] else "read")
    assert fast == slow


def test_fractions_are_written_as_python_writes_them() -> None:
    drawn = random.Random(0)
    rows = [
        {"a": drawn.uniform(-1, 1) * 10 ** drawn.randint(-6, 17), "b": drawn.randint(-9, 9)}
        for _ in range(20_000)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    fast, slow = both("jsonl", content, (1 << 12, 16_384, 8))
    assert fast == slow


@pytest.mark.parametrize("cut", [1, 9, 200, 5_000, 20_000])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_damaged_gzip_is_refused_after_the_same_rows(form: str, cut: int) -> None:
    drawn = random.Random(0)
    row = (lambda a, b: f"{a},{b}") if form == "csv" else (lambda a, b: f'{{"a":"{a}","b":{b}}}')
    lines = [row(drawn.random(), drawn.randint(0, 9)) for _ in range(5_000)]
    whole = gzip.compress("\n".join(["a,b"] * (form == "csv") + lines).encode())
    flipped = bytearray(whole)
    flipped[-cut] ^= 4
    for content in (whole[:-cut], bytes(flipped)):
        fast, slow = both(form, content, (1 << 14, 16, 16), ".gz")
        assert fast[1] is not None
        assert fast == slow


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_fields_and_lines_at_their_limits_are_read_or_refused_alike(more: int, end: str) -> None:
    before = "a,b\n" + "x,y\n" * 50_000
    for field in ("x" * (131_072 + more), '"' + "é" * (131_072 + more) + '"'):
        fast, slow = both("csv", f"{before}{field},y{end}".encode(), (1 << 16, 1_000, 1_000))
        assert fast == slow
        assert (slow[1] is None) == (more < 1)
    for size in (2**20, 2**20 + len(end)):
        text = "x" * (size - len('{"a":"","b":1}') + more)
        line = f'{{"a":"{text}","b":1}}{end}'
        content = '{"a":"x","b":1}\n' * 50_000 + line
        fast, slow = both("jsonl", content.encode(), (1 << 22, 1_000, 1_000))
        assert fast == slow
        assert (slow[1] is None) == (len(line) <= 2**20)


@pytest.mark.parametrize("form", ["CSV", "JSONL"])
def test_texts_that_look_like_numbers_or_null_stay_texts(form: str, tmp_path: Path) -> None:
    texts = ["007", "NA", "null", "", "nan", "1e5", "TRUE", "N/A", "-"] * 20_000
    path = tmp_path / "rows"
    if form == "CSV":
        path.write_text("a,b\n" + "".join(f"{text},x\n" for text in texts), encoding="utf-8")
    else:
        rows = ({"a": text, "b": "x"} for text in texts)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    batches = list(read_batches(DataFile(path, "rows"), form, WANTED, ["a"]))
    assert [text for batch in batches for text in batch.columns["a"].to_pylist()] == texts
    assert {batch.columns["a"].null_count for batch in batches} == {0}
    assert batches[-1].location(0).startswith("'rows' line 163,84")


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_batches_of_long_rows_have_fewer_rows(
    form: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (readers.rows, csv_rows, jsonl_rows, parquet_rows):
        monkeypatch.setattr(module, "BATCH_BYTES", 1_000_000)
    texts = [f"{row:05}" + "x" * 5_000 for row in range(1_000)]
    rows = [{"a": text, "b": "x"} for text in texts]
    file = DataFile(tmp_path / "rows", "rows")
    with file.path.open("w", encoding="utf-8", newline="") as written:
        if form == "csv":
            writer = csv.DictWriter(written, "ab")
            writer.writeheader()
            writer.writerows(rows)
        else:
            written.writelines(json.dumps(row) + "\n" for row in rows)
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file.path)
        batches = list(read_batches(file, "Parquet", WANTED))
    else:
        with open_lines(file, 100_000) as lines:
            if form == "csv":
                chunks = read_csv(lines, WANTED, list(WANTED), fast=fast)
            else:
                chunks = read_jsonl(lines, WANTED, fast=fast)
            batches = list(batched(chunks, list(WANTED), file))
    assert [text for batch in batches for text in batch.columns["a"].to_pylist()] == texts
    assert max(batch.columns["a"].nbytes for batch in batches) < 1_500_000


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_ordinary_rows_are_not_read_one_by_one(form: str, tmp_path: Path) -> None:
    class Counted(Lines):
        taken = 0

        def take(self, size: int, lines: int) -> None:
            self.taken += lines
            super().take(size, lines)

    file = DataFile(tmp_path / "rows", "rows")
    rows = [{"a": f'text "{row}", éñ 🙂', "b": row / 4, "c": [row]} for row in range(1_000)]
    with file.path.open("w", encoding="utf-8", newline="") as written:
        if form == "csv":
            writer = csv.DictWriter(written, "abc")
            writer.writeheader()
            writer.writerows(rows)
        else:
            written.writelines(json.dumps(row) + "\n" for row in rows)
    with file.path.open("rb") as stream:
        lines = Counted(file, stream, 1_000)
        read = read_csv(lines, WANTED, ["a"]) if form == "csv" else read_jsonl(lines, WANTED)
        assert sum(chunk.num_rows for chunk in read) == len(rows)
    assert lines.taken >= len(rows) - 64
