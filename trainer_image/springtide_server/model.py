"""The served model: a verified artifact, scored by the same code as in the evaluation.

PyTorch is only imported to load a model: a server without a model starts within a second and uses
little memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_server.loading.scorer import load_scorer
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_server.loading.scorer import Source
    from springtide_server.settings import Settings
    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.artifact.preprocess import Pair
    from springtide_trainer.tasks.task import OutputTensor

CPU_ROWS = 8
"""Rows of one forward pass on a CPU. Rows are sorted by length, so a small pass has little padding:
11 ms of CPU per row for MiniLM on texts of 3 to 60 words; 16 ms with 32 rows and 15 ms with 1."""


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
        """Names of the input tensors."""
        return self.scorer.preprocess.inputs

    @property
    def outputs(self) -> Sequence[OutputTensor]:
        """The output tensors."""
        return self.scorer.task.tensors

    def score(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Score rows as in the evaluation. Blocking.

        Returns:
            float32 [rows, outputs], finite.

        Raises:
            ArithmeticError: a score is NaN or infinite.
        """
        batch_size = CPU_ROWS if self.scorer.model.device.type == "cpu" else max(1, len(pairs))
        scores = self.scorer.predict(pairs, batch_size)
        if not np.isfinite(scores).all():
            raise ArithmeticError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
        return scores

    def warm_up(self, rows: int) -> None:
        """Score artificial texts: short ones in a batch of 1, long ones in batches of `rows`.

        Raises:
            Refused: the scores are not finite.
        """
        for words, count in ((1, 1), (8, rows), (self.scorer.preprocess.max_length, rows)):
            columns = {name: ["word " * words] * count for name in self.inputs}
            try:
                self.score(self.scorer.preprocess.render(columns))
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
            "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in self.inputs],
            "outputs": [_metadata(tensor) for tensor in self.outputs],
            "parameters": {"digest": self.digest},
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
