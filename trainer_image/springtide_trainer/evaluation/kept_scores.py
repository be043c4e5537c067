"""Scores of some rows on the storage, for the other pods of an evaluation and for its next attempt.

They are complete or absent, named by all that they depend on, and verified before they are used;
damaged ones are removed. The runner deletes them once the result of the evaluation is committed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.predicted_tokens import PredictedTokens
from springtide_trainer.evaluation.scoring import Scored
from springtide_trainer.storage import (
    commit_folder,
    committed_folders,
    file_digest,
    forget,
    local_path,
    uri_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

SIDECAR = "scores.json"
_LIBRARIES = ("springtide", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Key:
    """All that the scores of some rows depend on, but for the hardware.

    Attributes:
        rows: Digest of the rows, their part and their range in it.
        count: How many rows they are.
        models: Digest of each model as it is served, with its tokenizer and its preprocessing.
        library: Versions of what renders, tokenizes and scores.
    """

    rows: str
    count: int
    models: tuple[str, ...]
    library: str

    @staticmethod
    def of(rows: str, count: int, models: Sequence[str]) -> Key:
        """Return the key of rows that these libraries score."""
        return Key(rows, count, tuple(models), _library())

    @cached_property
    def folder(self) -> str:
        """Name of the folder."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return f"scores-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


@dataclass(frozen=True)
class KeptScores:
    """The scores that are kept of one generation.

    Attributes:
        room: The folder of the folders.
        scratch: A folder of this pod on the same file system.
    """

    room: Path
    scratch: Path

    def names(self) -> set[str]:
        """Return the names of the folders that are there."""
        return {folder.name for folder in committed_folders(self.room)}

    def commit(self, key: Key, scored: Sequence[Scored]) -> None:
        """Write scores, one for each model of the key, unless they are there.

        Raises:
            OSError: the disk is full, or the evaluation is over.
        """
        made = self.scratch / f"{key.folder}-{uuid.uuid4()}"
        made.mkdir()  # not its parent: the pod that committed the result has removed it
        for name, values in _arrays(scored).items():
            np.save(made / name, values, allow_pickle=False)
        files = {path.name: file_digest(path) for path in sorted(made.iterdir())}
        sidecar = {"key": asdict(key), "files": files}
        (made / SIDECAR).write_text(json.dumps(sidecar, sort_keys=True) + "\n", encoding="utf-8")
        if not commit_folder(made, self.room / key.folder):
            shutil.rmtree(made)

    def read(self, key: Key) -> list[Scored] | None:
        """Read and verify scores. Damaged ones are removed; None: there are none.

        Raises:
            Refused: the object store cannot be read.
        """
        final = self.room / key.folder
        try:
            folder = local_path(uri_of(final))
            return _open(folder, key) if folder.is_dir() else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Refused) as damaged:
            if isinstance(damaged, Refused) and damaged.code == ExitCode.ENVIRONMENT:
                raise
            log.warning("damaged scores are made again", extra={"error": str(damaged)})
            self._remove(final)
            return None

    def _remove(self, folder: Path) -> None:
        """Rename a folder before it is deleted, so that no reader sees a part of it."""
        forget(folder)
        try:
            folder.rename(aside := self.scratch / f"damaged-{uuid.uuid4()}")
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)


@cache
def _library() -> str:
    return ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)


def _arrays(scored: Sequence[Scored]) -> dict[str, Any]:
    """Return the content of each file."""
    found: dict[str, Any] = {}
    for number, each in enumerate(scored):
        found[f"{number}-predictions.npy"] = each.predictions
        if each.predicted is not None:
            found[f"{number}-words.npy"] = each.predicted.words
            found[f"{number}-counts.npy"] = each.predicted.counts
    return found


def _open(folder: Path, key: Key) -> list[Scored]:
    """Verify scores and read them.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: they are damaged.
    """
    sidecar: dict[str, Any] = json.loads((folder / SIDECAR).read_bytes())
    if sidecar["key"] != json.loads(json.dumps(asdict(key))):
        raise ValueError(f"{folder.name} has the scores of other rows or models")
    content = {}
    for name, digest in sidecar["files"].items():
        if file_digest(folder / name) != digest:
            raise ValueError(f"{folder.name}/{name} does not match its digest")
        content[name] = np.load(folder / name, allow_pickle=False)
    return [_scored(content, number, key.count) for number in range(len(key.models))]


def _scored(content: dict[str, Any], number: int, rows: int) -> Scored:
    predictions, words = content[f"{number}-predictions.npy"], content.get(f"{number}-words.npy")
    predicted = None
    if words is not None:
        predicted = PredictedTokens(words, content[f"{number}-counts.npy"])
    counts = rows if predicted is None else len(predicted.counts)
    if len(predictions) != rows or counts != rows:
        raise ValueError(f"{len(predictions)} of {rows} rows have scores")
    return Scored(predictions, predicted)
