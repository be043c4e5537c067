"""Searches the documents of a dataset by the vectors of its queries, as a live index would.

The documents are those of all rows of the dataset. Models with the same model of documents share
their vectors: those of a candidate whose queries alone were trained are those of the live index,
whose texts are cut as the live model cuts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics import retrieval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.evaluation.datasets import EvaluationDataset


class Search:
    """The documents of a dataset.

    Args:
        dataset: The rows.
        models: The models that search them: the candidate, then live, then the reference.
    """

    def __init__(self, dataset: EvaluationDataset, models: Sequence[Scorer]) -> None:
        self._dataset = dataset
        self._models = [*models[1:], *models[:1]]
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def ranks(
        self, model: Scorer, queries: NDArray[np.float32], batch_size: int
    ) -> NDArray[np.float32]:
        """Return at which rank each query finds the document of its row: float32 [rows, 1].

        Args:
            model: A bi-encoder.
            queries: float32 [rows, dimensions], its vectors of the queries.
            batch_size: Rows of a forward pass.
        """
        table = self._dataset.table
        if table is None or not len(table):
            return np.empty((0, 1), np.float32)
        assert model.documents is not None
        identity = model.task.encode(table["label"], f"rows of dataset {self._dataset.name!r}")
        newest, of_row = retrieval.newest_rows(identity)
        if (known := model.documents.digest) not in self._vectors:
            maker = next(m for m in self._models if m.documents and m.documents.digest == known)
            texts = table["text_pair"].take(newest).to_pylist()
            pairs = maker.preprocess.render_documents(texts)
            self._vectors[known] = maker.predict_documents(pairs, batch_size)
        return retrieval.ranks(queries, self._vectors[known], of_row)
