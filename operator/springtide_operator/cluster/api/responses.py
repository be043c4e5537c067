"""Responses of the API server: lines of a watch, and failures as typed errors."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp

from springtide_operator.cluster.api import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


LONGEST_FAILURE = 65536
"""Bytes of a failure that are read; what is longer has no reason."""


async def failure_of(response: aiohttp.ClientResponse, what: str) -> errors.ApiError:
    """The error that a response means."""
    raw = b""
    async for part in response.content.iter_any():  # the answer may come in several parts
        raw += part
        if len(raw) > LONGEST_FAILURE:
            break
    try:
        body = json.loads(raw)
    except ValueError:
        body = {"message": raw[:200].decode("utf-8", "replace")}
    asked = response.headers.get("Retry-After", "")
    retry_after = float(asked) if asked.isdigit() else None
    mapping = body if isinstance(body, dict) else {}
    return errors.from_status(response.status, mapping, what, retry_after=retry_after)


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of a watch as they arrive."""
    # Not readline: an object may be longer than the stream's limit of a line.
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line


class translated_errors:  # noqa: N801 - reads as a statement
    """Turn the transport's exceptions into ours."""

    def __init__(self, verb: str, url: str) -> None:
        self._what = f"{verb} {url}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, asyncio.TimeoutError):
            raise errors.Timeout(f"{self._what}: no answer in time") from error
        if isinstance(error, (aiohttp.ClientError, OSError, ValueError)):
            raise errors.Unavailable(f"{self._what}: {type(error).__name__}: {error}") from error
