"""The model that is served: a verified artifact behind the evaluator's own scoring code.

PyTorch is imported only when there is something to load: a server that waits for its first model
answers its probes within a second and stays small.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_server.tensors import LABEL, PROBABILITIES
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_server.settings import Settings
    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.artifact.preprocess import Pair

CPU_ROWS = 8
"""Rows of one forward pass on a CPU. Rows are sorted by length, so few of them pad little: 11 ms of
CPU a row for MiniLM on texts of 3 to 60 words, against 16 ms in passes of 32 and 15 ms alone."""


@dataclass(frozen=True)
class Model:
    """One generation, loaded."""

    name: str
    version: str
    digest: str
    scorer: Scorer

    @property
    def inputs(self) -> list[str]:
        """Names of the input tensors."""
        return self.scorer.preprocess.inputs

    @property
    def labels(self) -> list[str]:
        """Names of the columns of `probabilities`."""
        return self.scorer.preprocess.labels

    def score(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Score rows as the evaluator does; blocks.

        Returns:
            float32 [rows, labels], finite.

        Raises:
            ArithmeticError: the model gave NaN or an infinity.
        """
        together = CPU_ROWS if self.scorer.model.device.type == "cpu" else max(1, len(pairs))
        scores = self.scorer.probabilities(pairs, together)
        if not np.isfinite(scores).all():
            raise ArithmeticError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
        return scores

    def warm_up(self, rows: int) -> None:
        """Score made-up texts, short ones alone and long ones in batches of so many rows.

        Raises:
            Refused: the scores are not finite: such weights must not serve.
        """
        for words, many in ((1, 1), (8, rows), (self.scorer.preprocess.max_length, rows)):
            columns = {name: ["word " * words] * many for name in self.inputs}
            try:
                self.score(self.scorer.preprocess.render(columns))
            except ArithmeticError as wrong:
                raise Refused(
                    "NotFinite", f"the model {self.digest} is broken: {wrong} in the warm-up"
                ) from wrong

    def metadata(self) -> dict[str, Any]:
        """Describe the model as the Open Inference Protocol v2 does."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "pytorch_transformers",
            "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in self.inputs],
            "outputs": [
                {
                    "name": PROBABILITIES,
                    "datatype": "FP32",
                    "shape": [-1, len(self.labels)],
                    # A parameter of the protocol is a scalar: the labels are a JSON list in a text.
                    "parameters": {"labels": json.dumps(self.labels, ensure_ascii=False)},
                },
                {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
            ],
            "parameters": {"digest": self.digest},
        }


def load(settings: Settings) -> Model:
    """Verify, load and warm up the model of the settings; blocks for seconds.

    Raises:
        Refused: the artifact is not the one of the digest, not safe, or gives no numbers.
    """
    folder = local_path(settings.model_uri, "MODEL_URI")
    from transformers.utils import logging as transformers_logging

    from springtide_trainer.artifact import models

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    scorer = models.load(folder, settings.model_digest)
    model = Model(settings.model_name, settings.version, settings.model_digest, scorer)
    model.warm_up(settings.max_batch)
    return model
