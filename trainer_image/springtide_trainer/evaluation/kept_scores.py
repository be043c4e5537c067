"""Scores of some rows on the storage, for the other pods of an evaluation and for its next attempt.

They are complete or absent, named by all that they depend on, and verified before they are used;
damaged ones are removed. The runner deletes them once the result of the evaluation is committed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer import kept_folders
from springtide_trainer.evaluation.predicted_tokens import PredictedTokens
from springtide_trainer.evaluation.scoring import Scored
from springtide_trainer.storage import commit_folder, committed_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
        kept_folders.seal(made, SIDECAR, asdict(key))
        if not commit_folder(made, self.room / key.folder):
            shutil.rmtree(made)

    def read(self, key: Key) -> list[Scored] | None:
        """Read and verify scores. Damaged ones are removed; None: there are none.

        Raises:
            Refused: the object store cannot be read.
            OSError: damaged scores cannot be removed.
        """
        final = self.room / key.folder
        read = partial(_read_files, key=key)
        return kept_folders.read(final, self.scratch, read, what="scores are")


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


def _read_files(folder: Path, key: Key) -> list[Scored]:
    """Verify scores and read them.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: they are damaged.
    """
    names = kept_folders.verified(folder, SIDECAR, asdict(key))
    content = {name: np.load(folder / name, allow_pickle=False) for name in names}
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
