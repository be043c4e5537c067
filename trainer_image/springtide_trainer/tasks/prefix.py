"""Prefixes: trained keys and values that each attention layer reads before those of a row.

Source: Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
arXiv:2101.00190; in every layer of encoders: Liu et al. 2022, "P-Tuning v2", arXiv:2110.07602. They
take no position of a row. They are put there where transformers calls an attention function, which
all models have that do not compute attention themselves: peft, which hands them over as a cache of
keys and values, has none for encoders without one.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

ATTENTION = "springtide_prefix"
"""The attention function of models with prefixes."""
_CHILD = "prefix"
_SEEN: ContextVar[dict[nn.Module, tuple[int, int]] | None] = ContextVar("seen", default=None)
"""Heads and size of the keys of the attention modules of a pass, if they are asked for."""


class Prefix(nn.Module):
    """Keys and values of one attention module.

    Args:
        heads: Number of heads that have keys and values.
        tokens: Number of keys and values of each head.
        size: Size of a key.
    """

    def __init__(self, heads: int, tokens: int, size: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(heads, tokens, size))
        self.values = nn.Parameter(torch.zeros(heads, tokens, size))

    @property
    def tokens(self) -> int:
        """Number of keys and values of each head."""
        return self.keys.shape[1]

    def forward(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [rows, heads, tokens, size] with those of the prefix first."""
        own = ((self.keys, keys), (self.values, values))
        made = [
            torch.cat([held.to(given.dtype).expand(len(given), -1, -1, -1), given], dim=2)
            for held, given in own
        ]
        return made[0], made[1]


def attach(model: PreTrainedModel, path: str, shape: tuple[int, int, int]) -> Prefix:
    """Give an attention module a new prefix, and return it.

    Args:
        model: The model.
        path: Path of the module.
        shape: Heads, tokens, and size of a key.
    """
    made = Prefix(*shape).train(model.training)
    model.get_submodule(path).add_module(_CHILD, made)
    model.set_attn_implementation(ATTENTION)
    return made


def prefixes(model: nn.Module) -> dict[str, Prefix]:
    """Return the prefixes of a model by the path of their attention module."""
    return {
        path.rpartition(".")[0]: module
        for path, module in model.named_modules()
        if isinstance(module, Prefix)
    }


def attention_shapes(model: Any) -> dict[str, tuple[int, int]]:
    """Return the heads and the size of the keys of each attention module, by its path.

    Returns:
        Nothing for a model that computes attention itself, or has what PyTorch's function leaves
        out: caps of the logits, or sinks.
    """
    if not model._can_set_attn_implementation() or not model._supports_sdpa:
        return {}
    before, training = model.config._attn_implementation, model.training
    paths = {module: path for path, module in model.named_modules()}
    seen: dict[nn.Module, tuple[int, int]] = {}
    model.set_attn_implementation(ATTENTION)
    model.train(mode=False)
    token = _SEEN.set(seen)
    try:
        with torch.no_grad():
            one = torch.ones(1, 1, dtype=torch.long)
            model.base_model(input_ids=one, attention_mask=one)
    finally:
        _SEEN.reset(token)
        model.train(mode=training)
        model.set_attn_implementation(before)
    return {paths[module]: shape for module, shape in seen.items()}


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **named: Any,
) -> tuple[Tensor, None]:
    """Compute attention over the prefix of a module, if it has one, and the tokens of the rows."""
    if (seen := _SEEN.get()) is not None:
        seen[module] = (key.shape[1], key.shape[3])
    held = getattr(module, _CHILD, None)
    if isinstance(held, Prefix):
        key, value = held(key, value)
        if attention_mask is not None:
            whole = attention_mask.dtype == torch.bool
            seen_by_all = torch.full_like(attention_mask[..., :1], whole)
            shown = seen_by_all.expand(*attention_mask.shape[:-1], held.tokens)
            attention_mask = torch.cat([shown, attention_mask], dim=-1)
    # A mask says what a decoder must not read: it is never left out for `is_causal`.
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, **named | {"is_causal": False}
    )


def _mask(*given: Any, **named: Any) -> Any:
    return sdpa_mask(*given, **named | {"allow_is_causal_skip": False})


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _mask)
