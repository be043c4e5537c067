"""Selects the reserved entities, which are never trained on, by a stable hash."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = b"springtide/reserve\0"
"""Makes the selection independent of other selections by a hash of the entity."""


def is_reserved(entity: str, fraction: str) -> bool:
    """Return whether an entity is reserved. A larger fraction only adds entities.

    Args:
        entity: The entity as text.
        fraction: Share of the entities as a decimal from 0 to 1, such as "0.05".
    """
    head = hashlib.sha256(_PREFIX + entity.encode()).digest()[:8]
    return int.from_bytes(head) < Fraction(fraction) * 2**64


def reserved(entities: Iterable[str], fraction: str) -> list[bool]:
    """Return whether each entity is reserved."""
    return [is_reserved(entity, fraction) for entity in entities]
