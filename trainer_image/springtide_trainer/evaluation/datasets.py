"""Evaluation datasets: holdout, historical (reserved) rows and guardrails, verified by digest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots.frozen_rows import (
    FEATURE,
    FREEZE_AGAIN,
    MANIFEST,
    codes,
    part_files,
    read_rows,
    row_hashes,
    verify_part,
)
from springtide_trainer.data.snapshots.guardrail import read_guardrail
from springtide_trainer.errors import Refused
from springtide_trainer.storage import digest_of, local_path
from springtide_trainer.tasks.metrics.statistic import EncodedRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_api.contract import EvaluateInput
    from springtide_api.generation.spec import Recipe
    from springtide_api.update.gate import Dataset
    from springtide_trainer.tasks.task import Labels

TEXTS = ("text", "text_pair")
MAX_HISTORICAL_ROWS = 100_000
"""Maximum reserved rows to score: whole entities, sampled by hash, the same in every run."""


@dataclass(frozen=True)
class EvaluationDataset:
    """The rows of one dataset."""

    name: str
    role: Literal["Holdout", "Historical", "Guardrail"]
    digest: str
    """Digest of the rows; empty if there are none."""
    table: pa.Table | None
    """As returned by `frozen_rows.read_rows`; None if there are no historical rows yet."""
    folder: Path | None = None
    """Folder of the frozen rows if the dataset is one whole part of them."""

    def encoded(self, labels: Labels) -> EncodedRows:
        """Encode labels by the task, entities and groups by order of occurrence."""
        if self.table is None:
            empty = np.empty(0, dtype=np.int64)
            return EncodedRows(empty, empty, empty)
        label = labels.encode(self.table["label"], f"rows of dataset {self.name!r}")
        return EncodedRows(label, codes(self.table["entity"])[0], self._groups())

    def _groups(self) -> NDArray[np.int64] | None:
        """Return the group of each row; None where some have none, as of before it was a column."""
        assert self.table is not None
        known = "group" in self.table.column_names and not self.table["group"].null_count
        return codes(self.table["group"])[0] if known else None

    def counts(self, labels: Labels) -> Counter[str]:
        """Count the rows of each label."""
        return Counter() if self.table is None else labels.count(self.table["label"])


def read_dataset(dataset: Dataset, given: EvaluateInput, recipe: Recipe) -> EvaluationDataset:
    """Read the rows of a dataset.

    Raises:
        Refused: rows are missing, damaged or do not match their digest, or the rows of a guardrail
            are not valid.
    """
    match dataset.role:
        case "Holdout":
            digest = given.holdout.digest
            folder = local_path(given.holdout.uri, only=part_files("holdout"))
            table = _verified(folder, digest, "holdout")
            return EvaluationDataset(dataset.name, "Holdout", digest, table, folder)
        case "Historical":
            shards = [local_path(uri, only=part_files("reserved")) for uri in given.historical]
            return _historical(dataset.name, shards, _read_columns(recipe))
        case "Guardrail":
            table = read_guardrail(recipe, dataset.uri or "", dataset.name)
            own = recipe.data.source.columns.entity is None
            hashes = row_hashes(table, own_entity=own)
            digest = f"sha256:{hashlib.sha256(hashes.tobytes()).hexdigest()}"
            return EvaluationDataset(dataset.name, "Guardrail", digest, table)


def _read_columns(recipe: Recipe) -> list[str]:
    """Return the columns of frozen rows that the model of a recipe reads."""
    made = Preprocess.of(recipe)
    return [f"{FEATURE}{name}" for name in made.features] or made.inputs


def _historical(name: str, folders: Sequence[Path], read: Sequence[str]) -> EvaluationDataset:
    """Concatenate the shards; the digest is the one of the list of their digests.

    Args:
        name: Name of the dataset.
        folders: The shards.
        read: Columns that the candidate reads. Shards may be older than some of them.
    """
    digests = [digest_of(folder.name) for folder in folders]
    tables = [
        _verified(folder, digest, "reserved")
        for folder, digest in zip(folders, digests, strict=True)
    ]
    if not sum(len(table) for table in tables):
        return EvaluationDataset(name, "Historical", "", None)
    digest = f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"
    table = _with_inputs(pa.concat_tables(tables, promote_options="default"), read)
    table = _sample_entities(table, MAX_HISTORICAL_ROWS)
    return EvaluationDataset(name, "Historical", digest, table)


def _with_inputs(table: pa.Table, read: Sequence[str]) -> pa.Table:
    """Fill in the inputs that rows lack: an empty text, as where the source has no value."""
    kept = [name for name in table.column_names if name in TEXTS or name.startswith(FEATURE)]
    for name in dict.fromkeys([*kept, *read]):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), pa.string()))
        filled = pc.fill_null(table[name], "")
        table = table.set_column(table.column_names.index(name), name, filled)
    return table


def _sample_entities(table: pa.Table, max_rows: int) -> pa.Table:
    """Keep whole entities in the order of their hashes, up to the limit but at least one."""
    if len(table) <= max_rows:
        return table
    counts = {one["values"]: one["counts"] for one in table["entity"].value_counts().to_pylist()}
    kept: list[str] = []
    rows = 0
    for entity in sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest()):
        rows += counts[entity]
        if kept and rows > max_rows:
            break
        kept.append(entity)
    return table.filter(pc.is_in(table["entity"], pa.array(kept)))


def read_manifest(folder: Path, digest: str) -> dict[str, Any]:
    """Read the manifest of frozen rows and verify its digest.

    Raises:
        Refused: DigestMismatch.
    """
    path = folder / MANIFEST
    text = path.read_bytes() if path.is_file() else b""
    found = f"sha256:{hashlib.sha256(text).hexdigest()}"
    if found != digest:
        state = f"has digest {found}" if text else "is missing"
        message = f"{path} {state}, expected digest {digest}; {FREEZE_AGAIN}"
        raise Refused("DigestMismatch", message)
    manifest: dict[str, Any] = json.loads(text)
    return manifest


def _verified(folder: Path, digest: str, part: Literal["holdout", "reserved"]) -> pa.Table:
    """Read one part of frozen rows and verify only this part against the manifest."""
    verify_part(folder, part, read_manifest(folder, digest))
    return read_rows(folder, part)
