"""The two models of a bi-encoder, that of the queries and that of the documents, and their loss.

Both are encoders without a head, of one architecture and one tokenizer. The outputs of the tokens
are combined to one vector by a hook, so that plain transformers loads the weights of either.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional
from transformers import AutoModel

from springtide_trainer.errors import Refused
from springtide_trainer.tasks.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from springtide_trainer.tasks.task import Candidates

DOCUMENTS = "document"
"""The variant of the weights, as transformers calls it, that makes vectors of documents."""
QUERY_WEIGHTS = "model.safetensors"
DOCUMENT_WEIGHTS = f"model.{DOCUMENTS}.safetensors"
POOLING = "spec.model.embedding.vectors.pooling"
_KEY = "pooling_mode_"
_POOLINGS = {"mean": "Mean", "mean_tokens": "Mean", "cls": "First", "cls_token": "First"}


class Pooled(NamedTuple):
    """The output of an encoder: one vector for each row, in place of the logits of a head."""

    logits: Tensor
    """float32 [rows, dimensions]."""


def load(folder: Path, pooling: str, *, documents: bool = False, **options: Any) -> Any:
    """Load an encoder without a head, as `load_model` does.

    Args:
        folder: A Hugging Face folder that has been checked.
        pooling: `Mean` or `First`.
        documents: Load the weights for documents.
        options: Arguments of `from_pretrained`, such as fields of the model's configuration.

    Returns:
        The model; with `output_loading_info=True` also the report of missing weights.
    """
    with torch.random.fork_rng(devices=[]):  # a pooler that the folder lacks is initialized
        variant = DOCUMENTS if documents else None
        loaded = load_model(AutoModel, folder, variant=variant, **options)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # for sentences that follow each other; no vector is made with it
    model.register_forward_hook(partial(_pooled, pooling), with_kwargs=True)
    return loaded


def _pooled(pooling: str, _: nn.Module, given: Any, inputs: dict[str, Tensor], made: Any) -> Pooled:
    return Pooled(pool(made.last_hidden_state, inputs["attention_mask"], pooling))


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Combine the outputs of the tokens of each row.

    Mean is the pooling of Sentence-BERT (Reimers and Gurevych 2019), First that of DPR (Karpukhin
    et al. 2020).

    Args:
        states: [rows, tokens, dimensions].
        mask: [rows, tokens], 1 for tokens that count.
        pooling: `Mean` or `First`.

    Returns:
        float32 [rows, dimensions].
    """
    if pooling == "First":
        return states[torch.arange(len(states), device=mask.device), mask.argmax(dim=1)].float()
    counted = mask.unsqueeze(-1).float()
    return (states.float() * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def check_pooling(source: Path, pooling: str) -> None:
    """Compare the pooling with what a folder of sentence-transformers says of its model.

    Raises:
        Refused: the model was trained with another one.
    """
    path = source / "1_Pooling" / "config.json"
    try:
        used = _poolings(json.loads(path.read_bytes()))
    except (OSError, ValueError, AttributeError, TypeError):
        return
    if used and used != {pooling}:
        other = used.pop() if len(used) == 1 else "another kind"
        raise Refused(
            "PoolingMismatch",
            f"{path} says that the vectors of this model are made by {other}, and pooling is "
            f"{pooling}; change pooling, or remove the file if the model is used otherwise",
            POOLING,
        )


def _poolings(known: Mapping[str, Any]) -> set[str]:
    """Return the poolings that a file of sentence-transformers names; empty if it names none.

    Its versions differ: `pooling_mode` is the name of one or a list of several, or each has a key.
    """
    if "pooling_mode" in known:
        named = known["pooling_mode"]
        names = [named] if isinstance(named, str) else named
    else:
        keys = (key for key, used in known.items() if used is True)
        names = [key.removeprefix(_KEY) for key in keys if key.startswith(_KEY)]
    return {_POOLINGS.get(name, "another kind") for name in names}


def in_batch(queries: Tensor, candidates: Candidates, *, scale: float) -> Tensor:
    """Cross-entropy of the document of each query among the documents of the step: [rows].

    The documents of the other rows are the negatives (Henderson et al. 2017, "Efficient Natural
    Language Response Suggestion"; with a temperature: Oord et al. 2018, InfoNCE). Each document is
    a candidate once, however many rows of the step have it, so that none is a negative of itself
    (an "accidental hit" of TensorFlow's sampled losses); documents that are known to be relevant to
    the same query are masked, too. The logarithm of the chance that a document is among the
    candidates is subtracted from its score (logQ correction: Yi et al. 2019,
    "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations").

    The candidates are those of the step, so the loss of a row does not depend on how the step is
    cut into passes.

    Args:
        queries: float32 [rows, dimensions].
        candidates: The documents of the step.
        scale: The temperature.
    """
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries.float() @ candidates.vectors.T / scale - candidates.log_q
    scores = scores.masked_fill(candidates.excluded, float("-inf"))
    return functional.cross_entropy(scores, candidates.own, reduction="none")
