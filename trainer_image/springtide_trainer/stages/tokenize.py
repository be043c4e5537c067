"""Tokenizes training rows before a training, in one of several pods without a GPU.

Nothing depends on it: what a pod cannot keep, the training tokenizes.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from springtide_trainer.artifact.manifest import MANIFEST, read_manifest, verify
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots import frozen_rows
from springtide_trainer.errors import Refused
from springtide_trainer.progress import Progress, Reporter
from springtide_trainer.storage import local_path
from springtide_trainer.training.rows.token_shards import Shards, Texts, keep_share

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import ArtifactRef, RunFile
    from springtide_trainer.storage import Home

WEIGHTS = frozenset({".safetensors", ".onnx"})


class RowsTokenized(Progress):
    """Progress in rows, without a loss."""

    def status(self, step: int, loss: float, now: float) -> dict[str, Any]:
        """Return the status after a number of rows."""
        status = super().status(step, loss, now)
        return status | {"metrics": [{"name": "rows_tokenized", "value": str(step)}]}


def tokenize(run: RunFile, home: Home, tmp: Path, rank: int) -> None:
    """Tokenize the shards of this pod; the first pod reports its share of them as progress.

    Args:
        run: The run file.
        home: The storage.
        tmp: The scratch folder of this pod.
        rank: The number of this pod, from 0.

    Raises:
        Refused: the parent or the rows do not match their digest, or the rows lack a column.
    """
    given, shards = run.tokenize, Shards.of(run, home)
    if given is None:
        raise Refused("InvalidRunFile", "stage tokenize needs the block tokenize in run.json")
    if shards is None:
        return
    parent, data = _tokenizer(given.parent), given.data
    folder = local_path(data.uri, only=frozen_rows.part_files("train"))
    frozen_rows.verify(folder, data.digest, ["train"])
    reporter = None if rank else Reporter.of(os.environ)
    progress: RowsTokenized | None = None

    def observe(done: int, total: int) -> None:
        nonlocal progress
        progress = progress or RowsTokenized(reporter, first=0, total=total)
        progress.observe(done, float("nan"))

    texts = Texts.of(folder, data.digest, Preprocess.of(run.recipe), parent)
    keep_share(texts, shards, tmp, rank=rank, pods=given.pods, observe=observe)


def _tokenizer(parent: ArtifactRef) -> Path:
    """Return the folder of an artifact with all but its weights, which can have many gigabytes."""
    known = read_manifest(local_path(parent.uri, only=[MANIFEST]), parent.digest)
    names = [str(file["path"]) for file in known]
    small = [name for name in names if PurePosixPath(name).suffix not in WEIGHTS]
    folder = local_path(parent.uri, only=[MANIFEST, *small])
    verify(folder, parent.digest, unread=WEIGHTS)
    return folder
