"""The served model: a verified artifact, scored by the same code as in the evaluation.

PyTorch is only imported to load a model: a server without a model starts within a second and uses
little memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from springtide_server import tensors
from springtide_server.loading.scorer import load_scorer
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from springtide_server.loading.scorer import Source
    from springtide_server.settings import Settings
    from springtide_server.tensors import Tensor
    from springtide_trainer.artifact.models import Predict, Scorer
    from springtide_trainer.artifact.preprocess import Pair
    from springtide_trainer.tasks.language.causal_lm import CausalLM
    from springtide_trainer.tasks.task import OutputTensor

RESPONSE = "response"
"""The input tensor with responses that are scored, for a decoder."""
DOCUMENT = "text_pair"
"""The input tensor with documents, for a bi-encoder."""
CPU_ROWS = 16
"""Maximum rows of one forward pass on a CPU."""


@dataclass(frozen=True)
class Row:
    """A rendered row.

    Attributes:
        pair: The texts; of a prompt with its response, which is scored and not generated, both.
        document: Whether the model of documents of a bi-encoder reads it.
        new: Maximum tokens of a generated response, if less than those of the model.
    """

    pair: Pair
    document: bool = False
    new: int | None = None


@dataclass(frozen=True)
class Model:
    """A loaded generation."""

    name: str
    version: str
    digest: str
    scorer: Scorer
    source: Source = "storage"
    """Where it was loaded from."""
    passes: Predict | None = None
    """What computes its forward passes."""

    @property
    def inputs(self) -> list[str]:
        """Names of the input tensors of a request."""
        return self.scorer.preprocess.inputs

    @property
    def alternative(self) -> list[str]:
        """Names of the input tensors of another kind of request.

        For a bi-encoder documents; for a decoder responses that are scored, beside the prompts.
        """
        if self.responds and RESPONSE not in self.inputs:
            return [RESPONSE]
        return [DOCUMENT] if self.scorer.documents else []

    @property
    def responds(self) -> bool:
        """Whether it generates text."""
        return self.scorer.preprocess.reads_labels

    @property
    def outputs(self) -> Sequence[OutputTensor]:
        """The output tensors."""
        return [*self.scorer.task.tensors, *self._scored]

    @property
    def _scored(self) -> Sequence[OutputTensor]:
        """The output tensors of requests with responses."""
        return cast("CausalLM", self.scorer.task).scored_tensors if self.responds else []

    def outputs_of(self, rows: Sequence[Row]) -> Sequence[OutputTensor]:
        """Return the output tensors of a request."""
        if self.responds and rows[0].pair[1] is not None:
            return self._scored
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
        if self.responds:
            return self._prompts(inputs)
        if self.alternative and inputs[0].name in self.alternative:
            texts = tensors.columns(inputs, self.alternative, self.inputs)
            return [
                Row(pair, document=True) for pair in preprocess.render_documents(texts[DOCUMENT])
            ]
        columns = tensors.columns(inputs, self.inputs, self.alternative)
        return [Row(pair) for pair in preprocess.render(columns)]

    def _prompts(self, inputs: Sequence[Tensor]) -> list[Row]:
        """Return prompts, with their responses if the request has them."""
        known = {tensor.name for tensor in inputs}
        given = [name for name in self.alternative if name in known]
        columns = tensors.columns(inputs, [*self.inputs, *given])
        responses = columns[given[0]] if given else None
        return [Row(pair) for pair in self.scorer.preprocess.render(columns, responses)]

    def generate(self, row: Row, observe: Callable[[str], bool]) -> str:
        """Generate the response to a prompt; `observe` as in `Scorer.respond`. Blocking."""
        limits = self.scorer.limits.at_most(row.new)
        (text,) = self.scorer.respond([row.pair[0]], limits, observe)
        return text

    def score(self, rows: Sequence[Row]) -> np.ndarray:
        """Score rows as in the evaluation, or generate their responses. Blocking.

        Returns:
            float32 [rows, outputs], finite; of a decoder [rows, 1] texts and numbers.

        Raises:
            ArithmeticError: a score is NaN or infinite.
        """
        if self.responds:
            return self._respond(rows)
        batch_size = self._batch_size(len(rows))
        document = np.fromiter((row.document for row in rows), bool, len(rows))
        scores = np.empty((len(rows), self.scorer.task.width), np.float32)
        for chosen, predict in (
            (~document, self.scorer.predict),
            (document, self.scorer.predict_documents),
        ):
            if chosen.any():
                pairs = [rows[at].pair for at in np.flatnonzero(chosen).tolist()]
                scores[chosen] = predict(pairs, batch_size, self.passes)
        return _finite(scores)

    def _respond(self, rows: Sequence[Row]) -> np.ndarray:
        """Generate the responses of rows without one, and score those of the others."""
        made = np.empty((len(rows), 1), dtype=object)
        scored = [at for at, row in enumerate(rows) if row.pair[1] is not None]
        if scored:
            size = self._batch_size(len(scored))
            found = self.scorer.predict([rows[at].pair for at in scored], size)
            made[scored, 0] = _finite(found)[:, 0].tolist()
        asked: dict[int | None, list[int]] = {}
        for at in sorted(range(len(rows)), key=lambda at: len(rows[at].pair[0])):
            if rows[at].pair[1] is None:
                asked.setdefault(rows[at].new, []).append(at)
        for new, places in asked.items():
            limits, size = self.scorer.limits.at_most(new), self._batch_size(len(places))
            for start in range(0, len(places), size):
                part = places[start : start + size]
                made[part, 0] = self.scorer.respond([rows[at].pair[0] for at in part], limits)
        return made

    def _batch_size(self, rows: int) -> int:
        return CPU_ROWS if self.scorer.model.device.type == "cpu" else max(1, rows)

    def warm_up(self, most: int) -> None:
        """Score artificial texts: short ones in a batch of 1, long ones in batches of `most`.

        Raises:
            Refused: the scores are not finite.
        """
        for words, count in ((1, 1), (8, most), (self.scorer.preprocess.max_length, most)):
            # A decoder's passes take long, and one row shows what can be wrong.
            text = ["word " * words] * (1 if self.responds else count)
            columns = dict.fromkeys(self.inputs, text)
            rows = [Row(pair) for pair in self.scorer.preprocess.render(columns)]
            if self.responds:
                rows = [Row((rows[0].pair[0], text[0])), replace(rows[0], new=2)]
            if self.scorer.documents:
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


def _finite(scores: np.ndarray) -> np.ndarray:
    if not np.isfinite(scores).all():
        raise ArithmeticError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
    return scores


def _metadata(tensor: OutputTensor) -> dict[str, Any]:
    described = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": [-1, *tensor.shape],
        "parameters": tensor.parameters,
    }
    return {name: value for name, value in described.items() if value}


def passes_of(scorer: Scorer) -> Predict | None:
    """Return what computes the forward passes of a model: None, unless PyTorch does on the CPU."""
    if scorer.platform != "pytorch_transformers" or scorer.model.device.type != "cpu":
        return None
    from springtide_server.cpu_passes import CpuPasses

    return CpuPasses().predict


def load(settings: Settings) -> Model:
    """Verify, load and warm up the model of the settings. Blocking, takes seconds.

    Raises:
        Refused: the artifact does not match the digest, is unsafe or of a task that answers no
            requests, or its scores are not finite.
    """
    scorer, source = load_scorer(settings)
    if not scorer.task.tensors:
        message = (
            f"model {settings.model_digest} is of task {scorer.preprocess.task}, which answers no "
            "requests; make it the model.initial of an update with another task, and serve that"
        )
        raise Refused("UnsupportedTask", message)
    known = settings.model_name, settings.version, settings.model_digest
    model = Model(*known, scorer, source, passes_of(scorer))
    model.warm_up(settings.max_batch)
    return model
