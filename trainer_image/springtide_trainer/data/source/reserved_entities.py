"""Which entities are never trained on: a choice by hash that stays the same for ever."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = b"springtide/reserve\0"
"""Keeps the choice apart from one that somebody else makes by a plain hash of the same entity."""


def is_reserved(entity: str, fraction: str) -> bool:
    """Tell whether an entity is reserved; a larger fraction only ever adds entities.

    Args:
        entity: The entity as text.
        fraction: Share of the entities as a decimal from 0 to 1, such as "0.05".
    """
    head = hashlib.sha256(_PREFIX + entity.encode()).digest()[:8]
    return int.from_bytes(head) < Fraction(fraction) * 2**64


def reserved(entities: Iterable[str], fraction: str) -> list[bool]:
    """Tell of each entity whether it is reserved."""
    return [is_reserved(entity, fraction) for entity in entities]
