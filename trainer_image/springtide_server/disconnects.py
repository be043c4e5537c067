"""Stops waiting for what a client asked for once the client has disconnected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import numpy as np
    from starlette.requests import Request


async def unless_disconnected(
    request: Request, work: Coroutine[Any, Any, np.ndarray]
) -> np.ndarray:
    """Wait for the scores of a request, whose body was read.

    Raises:
        ClientDisconnect: the client disconnected; the work is cancelled.
    """
    disconnected = asyncio.ensure_future(_disconnected(request))
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait({disconnected, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        disconnected.cancel()
        working.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
