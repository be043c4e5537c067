"""The models that are trained on a GPU, and what all sides of one round share."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from bench.relevance import LABELS, MAX_LENGTH, texts, weights
from bench.training.rounds import Round
from sklearn.metrics import roc_auc_score
from trainer.training.conftest import imported
from transformers import AutoConfig, AutoModel

from springtide_trainer.artifact.models import load_tokenizer, predict
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.classification import Classification

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.training.rounds import Sizes
    from torch import nn

    from springtide_api.contract import CommittedArtifact
    from springtide_trainer.artifact.tokens import Tokens


@dataclass(frozen=True)
class Case:
    """A model, and how it is trained.

    Attributes:
        name: Of the model.
        batch: Rows of a step.
        rows: Rows of the only epoch.
        rate: Learning rate.
        layers: Number of layers; None: the weights of MiniLM-L6, else new ones.
        width: Hidden size; a head has 64 of it.
    """

    name: str
    batch: int
    rows: int
    rate: float
    layers: int | None = None
    width: int = 0

    @property
    def title(self) -> str:
        """What is measured."""
        return f"{self.name}, batches of {self.batch}"

    @property
    def compared(self) -> bool:
        """Whether the AUC of the sides is compared: new weights learn too little in one epoch."""
        return self.layers is None


CASES = [
    Case("MiniLM-L6", 32, 8_192, 1e-4),
    Case("MiniLM-L6", 256, 16_384, 3e-4),
    Case("BERT of 12 layers", 32, 4_096, 2e-5, layers=12, width=768),
    Case("BERT of 24 layers", 32, 2_048, 2e-5, layers=24, width=1024),
    Case("BERT of 24 layers", 128, 4_096, 2e-5, layers=24, width=1024),
]


class GpuRound(Round):
    """What all sides of a round share; all sides start from the weights of the case.

    Rounds of one folder share them.
    """

    def __init__(self, folder: Path, number: int, sizes: Sizes, *, case: Case) -> None:
        self.number = number
        self.sizes = sizes
        self.case = case
        self.home = Home(folder / "home")
        self.model = _imported(case, folder)
        self.parent = local_path(self.model.uri)

    @cached_property
    def tokens(self) -> int:
        """Tokens of the rows to train on, without padding."""
        pairs = [(text, None) for text in self.trained[0]]
        return int(tokenize(load_tokenizer(self.parent), pairs, MAX_LENGTH).lengths.sum())

    @cached_property
    def held_out(self) -> tuple[Tokens, list[int]]:
        """Tokens and labels of the rows on which the AUC is measured; the same in all rounds."""
        tokenizer = load_tokenizer(self.parent)
        some, labels = texts(tokenizer, self.sizes.held_out, 0)
        return tokenize(tokenizer, [(text, None) for text in some], MAX_LENGTH), labels

    def auc(self, model: Any) -> float:
        """Return the AUC of a model on the held-out rows."""
        tokens, labels = self.held_out
        rows = np.arange(len(labels))
        scores = predict(Classification(LABELS), model, tokens, rows=rows, batch_size=256)
        return float(roc_auc_score(labels, scores[:, 1]))


@lru_cache(maxsize=1)
def _imported(case: Case, folder: Path) -> CommittedArtifact:
    return imported(_weights(case, folder / "published"), Home(folder / "home"))


def _weights(case: Case, folder: Path) -> Path:
    """Return the folder of MiniLM's weights, or write new weights."""
    if case.layers is None:
        return weights()
    config = AutoConfig.from_pretrained(weights())
    config.update(
        {
            "num_hidden_layers": case.layers,
            "hidden_size": case.width,
            "num_attention_heads": case.width // 64,
            "intermediate_size": 4 * case.width,
        }
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    load_tokenizer(weights()).save_pretrained(folder)
    return folder


def layer_parameters(model: Any) -> int:
    """Return the parameters of a model without its embeddings, which multiply nothing."""
    embeddings: nn.Module = model.base_model.embeddings
    return _count(model) - _count(embeddings)


def _count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


class GpuClock:
    """Seconds of a training, and of its steps after the first fifth.

    Attributes:
        seconds: Of the block `running`.
        steps: Seconds of the steps that are counted.
        share: Share of all steps that are counted.
    """

    def __init__(self) -> None:
        self.seconds = self.steps = self.share = 0.0
        self._marked = (0, 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the seconds of a block, until the GPU has done its work."""
        began = _now()
        yield
        self.seconds += _now() - began

    def step(self, number: int, total: int) -> None:
        """Note the end of a step."""
        if number == max(1, total // 5):
            self._marked = (number, _now())
        elif number == total:
            first, began = self._marked
            self.steps, self.share = _now() - began, (total - first) / total


def _now() -> float:
    """Return the time when the GPU has done all that was asked for."""
    torch.cuda.synchronize()
    return time.perf_counter()
