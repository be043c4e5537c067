"""The documents of training rows: each is read and tokenized once, and is a candidate of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.artifact.tokens import CHUNK, collect, encode
from springtide_trainer.data.snapshots.frozen_rows import read_chunks
from springtide_trainer.tasks.embedding import identities
from springtide_trainer.tasks.metrics import retrieval
from springtide_trainer.tasks.task import Batch, Candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_trainer.artifact.preprocess import Pair, Preprocess
    from springtide_trainer.artifact.tokens import Tokens

    Integers = NDArray[np.int64]


@dataclass(frozen=True)
class DocumentRows:
    """Query and document of each row.

    Attributes:
        tokens: The texts of the documents.
        of_row: int64 [rows], the document of each row.
        query: int64 [rows], equal for rows with the same query.
    """

    tokens: Tokens
    of_row: Integers
    query: Integers


@dataclass(frozen=True)
class Documents:
    """The documents of training rows, with their vectors.

    Attributes:
        vectors: float32 [documents, dimensions]; [documents, 0] if their model is trained, too.
        tokens: The texts of the documents.
        log_q: float32 [documents], the logarithm of the chance that a document is in a step; 0
            without the logQ correction.
        of_row: int64 [rows], the document of each row.
        query: int64 [rows], the query of each row, from 0.
        relevant: int64 [pairs], the documents of the training rows of each query, by query.
        starts: int64 [queries + 1], where those of a query begin.
    """

    vectors: NDArray[np.float32]
    tokens: Tokens
    log_q: NDArray[np.float32]
    of_row: Integers
    query: Integers
    relevant: Integers
    starts: Integers

    @property
    def trained(self) -> bool:
        """Whether the model of documents is trained, so that steps read their texts."""
        return not self.vectors.size

    def passes(self, step: Integers, cut: Callable[[Integers], list[slice]]) -> list[Batch]:
        """Return the forward passes of the documents of a step; none if they have vectors.

        Args:
            step: All rows of the step.
            cut: Cuts texts of these lengths into passes.

        Returns:
            Batches whose labels are the places of the documents among the candidates.
        """
        if not self.trained:
            return []
        chosen = np.unique(self.of_row[step])
        order = np.argsort(self.tokens.lengths[chosen], kind="stable")
        return [
            Batch(
                inputs=self.tokens.batch(chosen[order[part]]),
                labels=torch.from_numpy(order[part]),
                weights=torch.zeros(part.stop - part.start),
            )
            for part in cut(self.tokens.lengths[chosen[order]])
        ]

    def candidates(self, step: Integers, own: Integers) -> Candidates:
        """Return the documents of a step for some of its rows.

        Args:
            step: All rows of the step.
            own: The rows of a forward pass.
        """
        chosen = np.unique(self.of_row[step])
        place = np.searchsorted(chosen, self.of_row[own])
        excluded = np.zeros((len(own), len(chosen)), dtype=bool)
        row, document = self._relevant(own)
        at = np.minimum(np.searchsorted(chosen, document), len(chosen) - 1)
        there = chosen[at] == document
        excluded[row[there], at[there]] = True
        excluded[np.arange(len(own)), place] = False
        return Candidates(
            torch.from_numpy(self.vectors[chosen]),
            torch.from_numpy(self.log_q[chosen]),
            torch.from_numpy(place),
            torch.from_numpy(excluded),
        )

    def ranks(
        self,
        queries: NDArray[np.float32],
        rows: Integers,
        embed: Callable[[Tokens, Integers], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """Return at which rank each query finds the document of its row: float32 [rows, 1].

        It is found among all documents; if their model is trained, among those of these rows.

        Args:
            queries: float32 [rows, dimensions].
            rows: The row of each query.
            embed: Returns the vectors of some of the texts by the model as it is now.
        """
        if not self.trained:
            return retrieval.ranks(queries, self.vectors, self.of_row[rows])
        chosen, own = np.unique(self.of_row[rows], return_inverse=True)
        return retrieval.ranks(queries, embed(self.tokens, chosen), own)

    def _relevant(self, rows: Integers) -> tuple[Integers, Integers]:
        """Return the documents of the queries of rows: the index of a row, and the document."""
        begins = self.starts[self.query[rows]]
        counts = self.starts[self.query[rows] + 1] - begins
        row = np.repeat(np.arange(len(rows)), counts)
        ends = np.cumsum(counts)
        places = np.repeat(begins - (ends - counts), counts) + np.arange(len(row))
        return row, self.relevant[places]


def read(
    folder: Path,
    preprocess: Preprocess,
    *,
    identity: Integers,
    replayed: pa.Table | None,
    parent: Path,
) -> DocumentRows:
    """Read the documents and queries of training rows.

    The text of a document is that of its newest row; those of replayed rows are older.

    Args:
        folder: Folder of the frozen rows, verified.
        preprocess: Renders documents.
        identity: int64 [rows], the hash of the document of each row, replayed rows last.
        replayed: The replayed rows.
        parent: Folder of the parent's artifact, with the tokenizer.
    """
    new = len(identity) - (len(replayed) if replayed else 0)
    by_age = np.concatenate([np.arange(new, len(identity)), np.arange(new)])
    newest, of_row = retrieval.newest_rows(identity, by_age)
    order = np.argsort(newest, kind="stable")
    inside = newest[order]  # in the order in which texts are read
    queries: list[Integers] = []

    def chunks() -> Iterator[list[Pair]]:
        first = 0
        for batch in _batches(folder, replayed):
            queries.append(identities(batch["text"]))
            begin, end = np.searchsorted(inside, (first, first + len(batch)))
            texts = batch["text_pair"].take(inside[begin:end] - first).to_pylist()
            first += len(batch)
            for start in range(0, len(texts), CHUNK):
                yield preprocess.render_documents(texts[start : start + CHUNK])

    tokenizer = load_tokenizer(parent)
    tokens = collect(tokenizer, encode(tokenizer, chunks(), preprocess.max_length))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    query = np.unique(np.concatenate(queries), return_inverse=True)[1]
    return DocumentRows(tokens, place[of_row], query.astype(np.int64))


def _batches(folder: Path, replayed: pa.Table | None) -> Iterator[pa.Table]:
    for batch in read_chunks(folder, "train", ["text", "text_pair"]):
        yield pa.Table.from_batches([batch])
    if replayed is not None and len(replayed):
        yield replayed.select(["text", "text_pair"])
