"""The served model: a verified artifact, scored by the same code as in the evaluation.

PyTorch is only imported to load a model: a server without a model starts within a second and uses
little memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_server import tensors
from springtide_server.loading.scorer import load_scorer
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_server.loading.scorer import Source
    from springtide_server.settings import Settings
    from springtide_server.tensors import Tensor
    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.artifact.preprocess import Pair
    from springtide_trainer.tasks.task import OutputTensor

DOCUMENT = "text_pair"
"""The input tensor with documents, for a bi-encoder."""
CPU_ROWS = 8
"""Rows of one forward pass on a CPU. Rows are sorted by length, so a small pass has little padding:
11 ms of CPU per row for MiniLM on texts of 3 to 60 words; 16 ms with 32 rows and 15 ms with 1."""


@dataclass(frozen=True)
class Row:
    """A rendered row, and whether the model of documents of a bi-encoder reads it."""

    pair: Pair
    document: bool = False


@dataclass(frozen=True)
class Model:
    """A loaded generation."""

    name: str
    version: str
    digest: str
    scorer: Scorer
    source: Source = "storage"
    """Where it was loaded from."""

    @property
    def inputs(self) -> list[str]:
        """Names of the input tensors of a request."""
        return self.scorer.preprocess.inputs

    @property
    def alternative(self) -> list[str]:
        """Names of the input tensors of another kind of request: documents, for a bi-encoder."""
        return [DOCUMENT] if self.scorer.documents else []

    @property
    def outputs(self) -> Sequence[OutputTensor]:
        """The output tensors."""
        return self.scorer.task.tensors

    @property
    def parameters(self) -> dict[str, str]:
        """What identifies the model in its metadata and responses."""
        known = {"digest": self.digest}
        tower = self.scorer.documents
        return known | {"documents": tower.digest} if tower else known

    def rows(self, inputs: Sequence[Tensor]) -> list[Row]:
        """Return the rows of a request.

        Raises:
            Malformed: a tensor is missing, unknown, duplicated or invalid.
        """
        preprocess = self.scorer.preprocess
        if self.alternative and inputs[0].name in self.alternative:
            texts = tensors.columns(inputs, self.alternative, self.inputs)
            return [
                Row(pair, document=True) for pair in preprocess.render_documents(texts[DOCUMENT])
            ]
        columns = tensors.columns(inputs, self.inputs, self.alternative)
        return [Row(pair) for pair in preprocess.render(columns)]

    def score(self, rows: Sequence[Row]) -> np.ndarray:
        """Score rows as in the evaluation. Blocking.

        Returns:
            float32 [rows, outputs], finite.

        Raises:
            ArithmeticError: a score is NaN or infinite.
        """
        batch_size = CPU_ROWS if self.scorer.model.device.type == "cpu" else max(1, len(rows))
        document = np.fromiter((row.document for row in rows), bool, len(rows))
        scores = np.empty((len(rows), self.scorer.task.width), np.float32)
        for chosen, predict in (
            (~document, self.scorer.predict),
            (document, self.scorer.predict_documents),
        ):
            if chosen.any():
                pairs = [rows[at].pair for at in np.flatnonzero(chosen).tolist()]
                scores[chosen] = predict(pairs, batch_size)
        if not np.isfinite(scores).all():
            raise ArithmeticError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
        return scores

    def warm_up(self, most: int) -> None:
        """Score artificial texts: short ones in a batch of 1, long ones in batches of `most`.

        Raises:
            Refused: the scores are not finite.
        """
        for words, count in ((1, 1), (8, most), (self.scorer.preprocess.max_length, most)):
            text = ["word " * words] * count
            rendered = self.scorer.preprocess.render(dict.fromkeys(self.inputs, text))
            rows = [Row(pair) for pair in rendered]
            if self.alternative:
                documents = self.scorer.preprocess.render_documents(text)
                rows += [Row(pair, document=True) for pair in documents]
            try:
                self.score(rows)
            except ArithmeticError as wrong:
                raise Refused(
                    "NotFinite", f"model {self.digest} is not usable: {wrong} in the warm-up"
                ) from wrong

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata of the Open Inference Protocol v2."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": self.scorer.platform,
            "inputs": [
                {"name": name, "datatype": "BYTES", "shape": [-1]}
                for name in (*self.inputs, *self.alternative)
            ],
            "outputs": [_metadata(tensor) for tensor in self.outputs],
            "parameters": self.parameters,
        }


def _metadata(tensor: OutputTensor) -> dict[str, Any]:
    described = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": [-1, *tensor.shape],
        "parameters": tensor.parameters,
    }
    return {name: value for name, value in described.items() if value}


def load(settings: Settings) -> Model:
    """Verify, load and warm up the model of the settings. Blocking, takes seconds.

    Raises:
        Refused: the artifact does not match the digest, is unsafe, or its scores are not finite.
    """
    scorer, source = load_scorer(settings)
    model = Model(settings.model_name, settings.version, settings.model_digest, scorer, source)
    model.warm_up(settings.max_batch)
    return model
