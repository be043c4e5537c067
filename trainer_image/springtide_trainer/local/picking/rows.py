"""Reads rows without labels, by the columns that a model reads, and writes those that are picked.

A row whose inputs equal those of an earlier one is left out: it would be labelled twice.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_trainer.data.source import values
from springtide_trainer.data.source.files import DataFile
from springtide_trainer.data.source.readers.read import read_batches
from springtide_trainer.errors import Refused
from springtide_trainer.local.starting.source_guess import FORMATS, format_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from springtide_trainer.artifact.preprocess import Preprocess

OUTPUTS = {".csv": "CSV", ".jsonl": "JSONL", ".ndjson": "JSONL"}
FIXED = ("pick", "row", "score", "prediction", "label")
"""Columns of the output besides those of the rows. `label` is empty: people fill it in."""


@dataclass(frozen=True)
class Rows:
    """Different rows of a file.

    Attributes:
        columns: Values of each source column, inputs of the model first.
        inputs: The same values by the names of the model's inputs.
        numbers: Number of each row in the file, from 1.
        repeated: Rows that were left out because an earlier one has the same inputs.
        incomplete: Rows that were left out because an input is missing.
    """

    columns: dict[str, list[str]]
    inputs: dict[str, list[str]]
    numbers: list[int]
    repeated: int = 0
    incomplete: int = 0


def read(file: Path, preprocess: Preprocess, keep: Sequence[str] = ()) -> Rows:
    """Read the rows of a file.

    Args:
        file: CSV, JSONL or Parquet, by the end of its name.
        preprocess: That of the model: it names the source columns of the inputs.
        keep: Further columns, for the output.

    Raises:
        Refused: the file cannot be read, lacks a column, or has no row with all inputs.
    """
    form = format_of(file)
    if form is None or not file.is_file():
        message = f"{file} is no file that ends in {', '.join(FORMATS)} or these with .gz"
        raise Refused("DataNotFound", message)
    sources = sources_of(preprocess)
    names = list(dict.fromkeys([*sources.values(), *keep]))
    wanted = dict.fromkeys(names, "the columns of the model, or --keep")
    kept: dict[str, list[str]] = {name: [] for name in names}
    numbers, seen, number, repeated, incomplete = [], set(), 0, 0, 0
    for batch in read_batches(DataFile(file, file.name), form, wanted):
        texts = [values.texts(batch, name, "").to_pylist() for name in names]
        for row in zip(*texts, strict=True):
            number += 1
            key = row[: len(set(sources.values()))]
            if None in key:
                incomplete += 1
            elif key in seen:
                repeated += 1
            else:
                seen.add(key)
                numbers.append(number)
                for name, value in zip(names, row, strict=True):
                    kept[name].append("" if value is None else value)
    if not numbers:
        raise Refused("EmptyFile", f"{file} has no row with all of {', '.join(sources.values())}")
    inputs = {name: kept[source] for name, source in sources.items()}
    return Rows(kept, inputs, numbers, repeated, incomplete)


def sources_of(preprocess: Preprocess) -> dict[str, str]:
    """Return the source column of each input of a model."""
    if preprocess.features:
        return {name: name for name in preprocess.features}
    named = {"text": preprocess.text, "text_pair": preprocess.text_pair}
    return {name: named[name] or name for name in preprocess.inputs}


def check_output(file: Path, keep: Sequence[str], preprocess: Preprocess) -> None:
    """Check that picks can be written, before any row is scored.

    Raises:
        Refused: the name has another ending, the file exists, or a column would be written twice.
    """
    if file.suffix not in OUTPUTS:
        message = f"--output {file} must end in {', '.join(OUTPUTS)}"
        raise Refused("InvalidOutput", message)
    if file.exists():
        message = f"--output {file} exists and may have labels of people; name another file"
        raise Refused("InvalidOutput", message)
    if not file.absolute().parent.is_dir():
        raise Refused("InvalidOutput", f"--output {file}: its folder does not exist; create it")
    if taken := sorted({*keep, *sources_of(preprocess).values()} & {*FIXED}):
        message = f"the output has columns {', '.join(FIXED)} of its own; rename {taken[0]!r}"
        raise Refused("InvalidOutput", message)


def write(file: Path, lines: Iterable[Mapping[str, object]], names: Sequence[str]) -> None:
    """Write a line for each pick."""
    with file.open("x", encoding="utf-8", newline="") as out:
        if OUTPUTS[file.suffix] == "CSV":
            table = csv.DictWriter(out, names)
            table.writeheader()
            table.writerows(lines)
        else:
            for line in lines:
                out.write(json.dumps({name: line[name] for name in names}, ensure_ascii=False))
                out.write("\n")
