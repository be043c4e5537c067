"""Makes the batches of the next steps while the GPU computes, in the same order as without."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    import torch

    from springtide_trainer.training.rows.batches import Step

T = TypeVar("T")
U = TypeVar("U")

AHEAD = 3
"""Steps that are made ahead."""


def feed(steps: Generator[Step], device: torch.device) -> Generator[Step]:
    """Return the steps as a device takes them fastest.

    For a GPU they are made in a thread and put into pinned memory, from which a copy does not wait.
    On a CPU the thread would take time of the cores that compute.
    """
    return ahead(steps, pinned, count=AHEAD) if device.type == "cuda" else steps


def pinned(step: Step) -> Step:
    """Put the batches of a step into pinned memory. Needs a GPU."""
    return replace(step, batches=[batch.pinned() for batch in step.batches])


def ahead(items: Iterable[T], convert: Callable[[T], U], *, count: int) -> Generator[U]:
    """Iterate in one thread, a number of items ahead of the caller, in the order of the items.

    An error of the items or of `convert` is raised where its item would have been yielded. When
    the iterator is closed the thread has ended.
    """
    source = iter(items)

    def following() -> tuple[U] | None:
        for item in source:
            return (convert(item),)
        return None

    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    try:
        coming: deque[Future[tuple[U] | None]] = deque(
            worker.submit(following) for _ in range(count)
        )
        while (item := coming.popleft().result()) is not None:
            coming.append(worker.submit(following))
            yield item[0]
    finally:
        worker.shutdown(wait=True, cancel_futures=True)
