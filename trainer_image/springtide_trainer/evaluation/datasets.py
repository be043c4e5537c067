"""The rows that judge: holdout, reserved rows of the lineage, guardrails; held to their digests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.data.snapshots.frozen_rows import (
    FREEZE_AGAIN,
    MANIFEST,
    contents,
    read_rows,
    row_hashes,
)
from springtide_trainer.data.snapshots.guardrail import read_guardrail
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.metrics import Rows
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from springtide_api.contract import EvaluateInput
    from springtide_api.gate_spec import Dataset
    from springtide_api.generation import Recipe

MAX_HISTORICAL_ROWS = 100_000
"""Reserved rows that are scored at most: whole entities, chosen by hash, the same in every run."""


@dataclass(frozen=True)
class JudgedRows:
    """The rows of one dataset."""

    name: str
    role: Literal["Holdout", "Historical", "Guardrail"]
    digest: str
    """Of the frozen rows; empty where there are none."""
    table: pa.Table | None
    """As `rows.read_rows` returns it; None where a lineage has no history."""

    def coded(self, labels: Sequence[str]) -> Rows:
        """Number labels as in the list, entities and groups as they occur."""
        if self.table is None:
            nothing = np.empty(0, dtype=np.int64)
            return Rows(nothing, nothing, nothing)
        found = pc.index_in(self.table["label"], pa.array(labels, pa.string()))
        if found.null_count:
            first = self.table["label"].filter(pc.is_null(found))[0].as_py()
            raise Refused(
                "UnknownLabel",
                f"{found.null_count:,} of {len(found):,} rows of dataset {self.name!r} have a "
                f"label that the candidate does not know, such as {first[:32]!r}; it knows "
                f"{', '.join(labels[:10])}",
                "model.labels",
            )
        group = _codes(self.table["group"]) if "group" in self.table.column_names else None
        return Rows(found.to_numpy().astype(np.int64), _codes(self.table["entity"]), group)


def read_judged(dataset: Dataset, given: EvaluateInput, recipe: Recipe) -> JudgedRows:
    """Read the rows of a dataset.

    Raises:
        Refused: rows are missing, damaged or not those of their digest, or a guardrail's file may
            not judge.
    """
    match dataset.role:
        case "Holdout":
            table = _held(local_path(given.holdout.uri), given.holdout.digest, "holdout")
            return JudgedRows(dataset.name, "Holdout", given.holdout.digest, table)
        case "Historical":
            return _historical(dataset.name, [local_path(uri) for uri in given.historical])
        case "Guardrail":
            table = read_guardrail(recipe, dataset.uri or "", dataset.name)
            own = recipe.data.source.columns.entity is None
            hashes = b"".join(row_hashes(table, own_entity=own))
            digest = f"sha256:{hashlib.sha256(hashes).hexdigest()}"
            return JudgedRows(dataset.name, "Guardrail", digest, table)


def _historical(name: str, folders: Sequence[Path]) -> JudgedRows:
    """Put the shards together; their digest is that of the list of theirs."""
    digests = [folder.name.replace("-", ":", 1) for folder in folders]
    tables = [
        _held(folder, digest, "reserved") for folder, digest in zip(folders, digests, strict=True)
    ]
    if not sum(len(table) for table in tables):
        return JudgedRows(name, "Historical", "", None)
    digest = f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"
    table = _some(pa.concat_tables(tables, promote_options="default"), MAX_HISTORICAL_ROWS)
    return JudgedRows(name, "Historical", digest, table)


def _some(table: pa.Table, most: int) -> pa.Table:
    """Keep whole entities in the order of their hashes, as many rows as may be, at least one."""
    if len(table) <= most:
        return table
    counts = {one["values"]: one["counts"] for one in table["entity"].value_counts().to_pylist()}
    kept: list[str] = []
    rows = 0
    for entity in sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest()):
        rows += counts[entity]
        if kept and rows > most:
            break
        kept.append(entity)
    return table.filter(pc.is_in(table["entity"], pa.array(kept)))


def read_manifest(folder: Path, digest: str) -> dict[str, Any]:
    """Read the manifest of frozen rows and hold it to its digest.

    Raises:
        Refused: DigestMismatch.
    """
    path = folder / MANIFEST
    text = path.read_bytes() if path.is_file() else b""
    found = f"sha256:{hashlib.sha256(text).hexdigest()}"
    if found != digest:
        message = f"{path} is {found if text else 'missing'}, not {digest}; {FREEZE_AGAIN}"
        raise Refused("DigestMismatch", message)
    manifest: dict[str, Any] = json.loads(text)
    return manifest


def _held(folder: Path, digest: str, part: Literal["holdout", "reserved"]) -> pa.Table:
    """Read one part of frozen rows and hold it, and it alone, to the manifest of this digest."""
    manifest = read_manifest(folder, digest)
    table = read_rows(folder, part)
    hashes = row_hashes(table, own_entity="entity" not in manifest["columns"])
    if contents(table["partition"].to_pylist(), hashes) != manifest["rows"][part]:
        message = f"{folder / part}.parquet is not what its manifest says; {FREEZE_AGAIN}"
        raise Refused("DigestMismatch", message)
    return table


def _codes(column: pa.ChunkedArray) -> Any:
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
