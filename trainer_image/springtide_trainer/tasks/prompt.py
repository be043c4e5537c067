"""A prompt: trained vectors that a model reads between the words of each row.

Source: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning",
arXiv:2104.08691. A decoder reads them before the first token of a row, as in the library peft; an
encoder behind it, so that its head still reads the first position ([CLS]). Hooks put them there, so
that a model takes the same inputs with and without a prompt.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import PreTrainedModel

_CHILD = "prompt"
_IDS: ContextVar[Tensor | None] = ContextVar("ids", default=None)
"""The tokens of the pass that this thread computes. Vector i of the prompt is the token -1 - i."""


class Prompt(nn.Module):
    """The vectors.

    Args:
        tokens: Number of vectors.
        size: Size of a word embedding.
        place: Tokens of a row before them: 0 or 1.
    """

    def __init__(self, tokens: int, size: int, place: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(tokens, size))
        self.place = place

    @property
    def tokens(self) -> int:
        """Number of vectors."""
        return len(self.vectors)

    def forward(self, ids: Tensor, words: Tensor) -> Tensor:
        """Return word embeddings [rows, tokens, size] with the vectors in their places."""
        number = (-1 - ids).clamp(min=0)
        own = functional.embedding(number, self.vectors.to(words.dtype))
        return torch.where((ids < 0)[..., None], own, words)


def attach(model: PreTrainedModel, tokens: int, place: int) -> Prompt:
    """Give a model a new prompt, and return it; its vectors are 0."""
    words: Any = model.get_input_embeddings()
    made = Prompt(tokens, words(torch.zeros(1, dtype=torch.long)).shape[1], place)
    words.add_module(_CHILD, made.train(model.training))
    words.register_forward_pre_hook(_before_lookup)
    words.register_forward_hook(_after_lookup)
    model.register_forward_pre_hook(_insert, with_kwargs=True, prepend=True)
    return made


def prompt_of(model: Any) -> Prompt | None:
    """Return the prompt of a model; None: it has none."""
    found = getattr(model.get_input_embeddings(), _CHILD, None)
    return found if isinstance(found, Prompt) else None


def place_of(model: Any) -> int:
    """Return where the prompt of a model goes: behind the first token of an encoder's rows.

    In a decoder the first position does not depend on later tokens, and nothing but the prompt
    itself may come before what it changes.
    """
    rows, training = torch.tensor([[0, 1, 2], [0, 1, 3]]), model.training
    model.base_model.train(mode=False)
    with torch.no_grad():
        made = model.base_model(input_ids=rows, attention_mask=torch.ones_like(rows))[0][:, 0]
    model.base_model.train(mode=training)
    return 0 if torch.allclose(made[0], made[1], rtol=0, atol=1e-5) else 1


def with_prompt(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs of a model with the places of its prompt, if it has one.

    A pass that has no cache of keys and values does this by itself. `generate` has one, counts
    tokens, and needs them in its inputs.

    Args:
        model: The model.
        inputs: input_ids [rows, tokens], and more of this shape.
    """
    held = prompt_of(model)
    return dict(inputs) if held is None else _inserted(held, inputs)


def _insert(model: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if named.get("past_key_values") is not None:
        return given, named
    return given, with_prompt(model, named)


def _inserted(held: Prompt, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Insert the prompt in each row, `place` tokens behind the padding on its left."""
    ids: Tensor = inputs["input_ids"]
    start = torch.full_like(ids[:, :1], held.place)
    if (mask := inputs.get("attention_mask")) is not None:
        start = start + mask.long().argmax(dim=1, keepdim=True)
    columns = torch.arange(ids.shape[1] + held.tokens, device=ids.device)
    number = columns - start
    source = torch.where(number < 0, columns, columns - held.tokens).clamp(min=0)
    inside = (number >= 0) & (number < held.tokens)

    def changed(name: str, values: Any) -> Any:
        if not isinstance(values, torch.Tensor) or values.shape != ids.shape:
            return values
        new = -1 - number if name == "input_ids" else int(name == "attention_mask")
        return torch.where(inside, new, values.gather(1, source)).to(values.dtype)

    return {name: changed(name, values) for name, values in inputs.items()}


def _before_lookup(words: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    _IDS.set(given[0])
    return (given[0].clamp(min=0), *given[1:])


def _after_lookup(words: nn.Module, given: object, made: Tensor) -> Tensor:
    ids = _IDS.get()
    assert ids is not None
    placed: Tensor = words.get_submodule(_CHILD)(ids, made)
    return placed
