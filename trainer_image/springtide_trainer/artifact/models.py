"""Loads verified artifacts and scores rows with them, for the evaluation and the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer

from springtide_trainer.artifact.manifest import read_manifest, verify
from springtide_trainer.artifact.onnx_model import ONNX_MODEL, OnnxModel
from springtide_trainer.artifact.preprocess import CAUSAL_LM, Preprocess
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.processes import ALONE
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language.generation import Limits, responses
from springtide_trainer.tasks.language.masked_tokens import MaskingTokenizer
from springtide_trainer.tasks.language.response_tokens import ResponseTokenizer
from springtide_trainer.tasks.table import task_of
from springtide_trainer.tasks.towers import DOCUMENT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from springtide_trainer.artifact.joined_tokens import TokenRows
    from springtide_trainer.artifact.preprocess import Pair
    from springtide_trainer.artifact.tokens import RowTokenizer
    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Predictions, Task

transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


class ForwardModel(Protocol):
    """A model that computes logits: of the transformers library, or its optimized form."""

    @property
    def device(self) -> torch.device:
        """The device of its inputs."""

    def train(self, mode: bool = ...) -> Any:
        """Set training or evaluation mode."""

    def __call__(self, **inputs: torch.Tensor) -> Any:
        """Return an output with `logits`, [rows, outputs]."""


class Predict(Protocol):
    """Computes predictions, as `predict` of this module does."""

    def __call__(
        self,
        task: Task,
        model: ForwardModel,
        tokens: TokenRows,
        *,
        rows: NDArray[np.int64],
        batch_size: int,
    ) -> NDArray[np.float32]:
        """Score these rows: float32 [rows, outputs]."""


@dataclass(frozen=True)
class DocumentTower:
    """The model of documents of a bi-encoder.

    Attributes:
        model: The model.
        digest: SHA-256 of its weights: models with the same one give a document the same vector.
    """

    model: ForwardModel
    digest: str


@dataclass(frozen=True)
class Scorer:
    """A model with its task, tokenizer and preprocessing, and the folder of its artifact."""

    task: Task
    model: ForwardModel
    tokenizer: RowTokenizer
    preprocess: Preprocess
    folder: Path
    documents: DocumentTower | None = None

    @property
    def platform(self) -> str:
        """The platform in the metadata of the Open Inference Protocol."""
        optimized = isinstance(self.model, OnnxModel)
        return "onnxruntime_onnx" if optimized else "pytorch_transformers"

    def predict(
        self, pairs: Sequence[Pair], batch_size: int = 32, by: Predict | None = None
    ) -> NDArray[np.float32]:
        """Score rows without dropout. Deterministic: equal rows give equal scores.

        Args:
            pairs: Rows as returned by `preprocess.render`.
            batch_size: Rows of one forward pass; rows of similar length are batched together.
            by: What computes the forward passes; None: `predict` of this module.

        Returns:
            float32 [rows, outputs], the predictions of the task.
        """
        return self._predict(self.model, pairs, batch_size, by)

    @property
    def limits(self) -> Limits:
        """How long prompts and generated responses are, of CausalLM."""
        options, length = self.preprocess.causal_lm, self.preprocess.max_length
        assert options is not None
        return Limits(length, options.new_tokens(length))

    def respond(
        self,
        prompts: Sequence[str],
        limits: Limits,
        observe: Callable[[str], bool] | None = None,
    ) -> list[str]:
        """Generate the response to each rendered prompt, of CausalLM (`generation.responses`)."""
        assert isinstance(self.tokenizer, ResponseTokenizer)
        return responses(self.model, self.tokenizer, prompts, limits, observe)

    def predict_documents(
        self, pairs: Sequence[Pair], batch_size: int = 32, by: Predict | None = None
    ) -> NDArray[np.float32]:
        """Return the vectors of documents, as returned by `preprocess.render_documents`."""
        assert self.documents is not None
        return self._predict(self.documents.model, pairs, batch_size, by)

    def _predict(
        self, model: ForwardModel, pairs: Sequence[Pair], batch_size: int, by: Predict | None
    ) -> NDArray[np.float32]:
        if not pairs:
            return np.empty((0, self.task.width), dtype=np.float32)
        tokens = tokenize(self.tokenizer, pairs, self.preprocess.max_length)
        rows = np.arange(len(pairs))
        return (by or predict)(self.task, model, tokens, rows=rows, batch_size=batch_size)


def predict(
    task: Predictions,
    model: ForwardModel,
    tokens: TokenRows,
    *,
    rows: NDArray[np.int64],
    batch_size: int,
    observe: Callable[[int], None] = lambda done: None,
    processes: Processes = ALONE,
) -> NDArray[np.float32]:
    """Score these rows: float32 [rows, outputs]. Sets the model to evaluation mode.

    All rows are sorted by length, so the rows of a batch have about the same length. `observe` is
    called with the number of rows that are scored after each batch. Several processes share the
    batches, which are those of one, and all of them return all scores. They run as many passes, as
    a model in parts needs it: one that has no batch left scores the first one again.
    """
    made = np.zeros((len(rows), task.width), dtype=np.float32)
    order = np.argsort(tokens.lengths[rows], kind="stable")
    model.train(mode=False)
    starts = np.arange(0, len(order), batch_size)
    own = processes.share(starts).tolist()
    idle = len(own) < len(processes.share(starts, 0))

    def scored(start: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        chosen = order[start : start + batch_size]
        batch = tokens.batch(rows[chosen])
        inputs = {name: value.to(model.device) for name, value in batch.items()}
        return chosen, task.predict(model(**inputs).logits).cpu().numpy()

    # Parameters that processes gather for the first time must not become tensors of inference mode.
    with torch.inference_mode(mode=processes.count == 1), torch.no_grad():
        for start in own:
            chosen, scores = scored(start)
            made[chosen] = scores
            observe(start + len(chosen))
        if idle:
            scored(0)
    processes.merge(made)
    return made


def load(folder: Path, digest: str, device: str | None = None) -> Scorer:
    """Verify an artifact and load it: in FP32, on the GPU if there is one.

    An optimized form is loaded as it is, on the CPU. The weights are copies in memory: what happens
    to the folder later does not change them.

    Raises:
        Refused: the folder does not match the digest, or is unsafe to load.
    """
    verify(folder, digest)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    preprocess = Preprocess.read(folder)
    task = task_of(preprocess)
    optimized = folder / ONNX_MODEL
    model: ForwardModel = (
        OnnxModel(optimized) if optimized.exists() else _unmapped(move(task.load(folder), chosen))
    )
    documents = _document_tower(task, folder, digest, chosen)
    return Scorer(task, model, row_tokenizer(folder), preprocess, folder, documents)


def _document_tower(task: Task, folder: Path, digest: str, device: str) -> DocumentTower | None:
    """Load the model of documents of a verified artifact; None for a task without documents."""
    if not isinstance(task, Embedding):
        return None
    model = _unmapped(move(task.load_documents(folder), device))
    files = {file["path"]: file["sha256"] for file in read_manifest(folder, digest)}
    return DocumentTower(model, f"sha256:{files[DOCUMENT_WEIGHTS]}")


def move(model: PreTrainedModel, device: str | torch.device) -> PreTrainedModel:
    """Move a model to a device, in place, and return it."""
    torch.nn.Module.to(model, device)
    return model


def _unmapped(model: PreTrainedModel) -> PreTrainedModel:
    """Copy weights that safetensors has mapped from a file, in place, and return the model.

    A page of a mapped file is read when it is used, and again after memory was short: by then the
    file may have other bytes than those that were verified, or its storage may be down.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
    return model


def row_tokenizer(folder: Path) -> RowTokenizer:
    """Load what encodes the rows of an artifact: texts, also with hidden tokens, or responses."""
    tokenizer, preprocess = load_tokenizer(folder), Preprocess.read(folder)
    if preprocess.task == CAUSAL_LM:
        return ResponseTokenizer(tokenizer)
    return MaskingTokenizer(tokenizer) if preprocess.hides_tokens else tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder, without custom code or network access."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return tokenizer
