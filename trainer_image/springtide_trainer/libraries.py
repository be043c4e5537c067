"""Imports of PyTorch and transformers: most of a server's start, and of a short stage."""

from __future__ import annotations

import atexit
import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def lasting_objects() -> Iterator[None]:
    """Suspend garbage collection in the block, and leave out of it what was made by then.

    Imports make a million objects that live as long as the process. Looking at all of them again
    and again while they become more is 30 % of the CPU time of the imports.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # or extension modules print at exit what is left of theirs
        if was_enabled:
            gc.enable()


def import_libraries() -> None:
    """Import PyTorch, and of transformers what every model imports, unless that is done."""
    if "transformers.modeling_utils" in sys.modules:
        return
    with lasting_objects():
        import transformers.activations
        import transformers.modeling_layers
        import transformers.modeling_utils  # noqa: F401
