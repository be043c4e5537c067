"""The tokens of training rows in shards: ranges of rows whose tokens are kept with the checkpoints.

Several pods can tokenize before a training: each the shards of its number. The training tokenizes
those that are missing, so it needs none of these pods. The runner deletes all with the checkpoints.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from springtide_trainer.artifact import token_cache
from springtide_trainer.artifact.joined_tokens import JoinedTokens
from springtide_trainer.artifact.models import row_tokenizer
from springtide_trainer.artifact.token_cache import Key, Place
from springtide_trainer.artifact.tokens import CHUNK
from springtide_trainer.data.snapshots.frozen_rows import (
    count_rows,
    input_columns,
    inputs,
    read_chunks,
)
from springtide_trainer.storage import committed_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from springtide_api.contract import RunFile
    from springtide_trainer.artifact.joined_tokens import TokenRows
    from springtide_trainer.artifact.preprocess import Pair, Preprocess
    from springtide_trainer.artifact.tokens import RowTokenizer
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

MOST = 1024
"""Shards at most: each is some mapped files, of which a process can have 65,530."""


@dataclass(frozen=True)
class Shards:
    """Where shards are kept, and how many rows one has.

    Attributes:
        room: The folder of their folders: that of the checkpoints of the generation.
        size: Rows of a shard.
    """

    room: Path
    size: int

    @staticmethod
    def of(run: RunFile, home: Home) -> Shards | None:
        """Return the shards that the recipe asks for with data.window.rowsPerShard; None: none."""
        size = run.recipe.data.window.rows_per_shard
        return None if size is None else Shards(home.checkpoints(run.number or 0), size)

    def cut(self, rows: int) -> list[range]:
        """Cut rows into shards, at most `MOST`, each of a multiple of `size`; the last is shorter.

        Of no more than `size` rows there are none: they are tokenized as a whole.
        """
        if rows <= self.size:
            return []
        size = self.size * -(-rows // (self.size * MOST))
        return [range(start, min(start + size, rows)) for start in range(0, rows, size)]


@dataclass(frozen=True)
class Texts:
    """The training rows of a window, as the model reads them.

    Attributes:
        folder: Folder of the frozen rows, verified.
        preprocess: How they are rendered.
        tokenizer: What encodes them.
        key: The key of the tokens of all rows.
    """

    folder: Path
    preprocess: Preprocess
    tokenizer: RowTokenizer
    key: Key

    @staticmethod
    def of(folder: Path, digest: str, preprocess: Preprocess, parent: Path) -> Texts:
        """Return the rows with this digest, for the tokenizer of the parent's artifact."""
        key = Key.of(f"{digest}/train", preprocess, parent)
        return Texts(folder, preprocess, row_tokenizer(parent), key)

    def key_of(self, rows: range) -> Key:
        """Return the key of the tokens of some rows."""
        return replace(self.key, rows=f"{self.key.rows}[{rows.start}:{rows.stop}]")

    def chunks(self, rows: range | None = None) -> Iterator[list[Pair]]:
        """Read and render rows. None: all."""
        columns = input_columns(self.preprocess.inputs) + ["label"] * self.preprocess.reads_labels
        for batch in read_chunks(self.folder, "train", columns, CHUNK, rows=rows):
            yield render(self.preprocess, batch)

    def tokens(self, scratch: Path, shards: Shards | None) -> TokenRows:
        """Return the tokens of all rows; tokenize what is not kept.

        Args:
            scratch: A folder of this pod on the file system of rows and shards.
            shards: The shards. None: the tokens are kept as a whole, beside the rows.
        """
        cut = shards.cut(count_rows(self.folder, "train")) if shards else []
        if shards is None or not cut:
            whole = Place(self.folder, scratch)
            return token_cache.cached(self.tokenizer, self.chunks, key=self.key, place=whole)
        place = Place(shards.room, scratch, len(cut))
        return JoinedTokens(
            [
                token_cache.cached(
                    self.tokenizer,
                    partial(self.chunks, rows),
                    key=self.key_of(rows),
                    place=place,
                )
                for rows in cut
            ]
        )


def keep_share(
    texts: Texts,
    shards: Shards,
    scratch: Path,
    *,
    rank: int,
    pods: int,
    observe: Callable[[int, int], None],
) -> None:
    """Tokenize the shards of one pod that are not kept; end early where they cannot be kept.

    Args:
        texts: The rows.
        shards: The shards.
        scratch: A folder of this pod on their file system.
        rank: The number of the pod, from 0.
        pods: How many pods there are.
        observe: Called after each chunk with the rows of this pod that are done, and all of them.
    """
    cut = shards.cut(count_rows(texts.folder, "train"))
    there = {folder.name for folder in committed_folders(shards.room)}
    own, done = cut[rank::pods], 0
    total = sum(map(len, own))

    def observed(chunks: Iterable[list[Pair]], before: int) -> Iterator[list[Pair]]:
        for chunk in chunks:
            yield chunk
            before += len(chunk)
            observe(before, total)

    for rows in own:
        key = texts.key_of(rows)
        if key.folder not in there:
            chunks = observed(texts.chunks(rows), done)
            place = Place(shards.room, scratch, len(cut))
            try:
                kept = token_cache.keep(texts.tokenizer, chunks, key=key, place=place)
            except OSError as full:
                log.warning("the training tokenizes the rest", extra={"error": str(full)})
                return
            if kept.parent == scratch:
                shutil.rmtree(kept, ignore_errors=True)
        done += len(rows)


def render(preprocess: Preprocess, rows: pa.Table | pa.RecordBatch) -> list[Pair]:
    """Render rows as the texts that the model reads."""
    labels = rows["label"].to_pylist() if preprocess.reads_labels else None
    return preprocess.render(inputs(rows), labels)
