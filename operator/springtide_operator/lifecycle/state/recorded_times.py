"""Times in a status that are ahead of the clock: it was set back since they were written."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

SKEW = timedelta(minutes=1)
"""Clocks of several API servers may differ by this much: no clock was set back."""


def is_ahead(moment: datetime, now: datetime) -> bool:
    """Whether a recorded time is ahead of the clock: a pause that begins there is over."""
    return moment - now > SKEW
