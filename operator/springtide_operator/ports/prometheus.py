"""Asks a Prometheus for one number; only hosts that the installation allows are asked.

Of what a server answers nothing is quoted but the field `error` of Prometheus' own format, cut: the
address is written by users, who would else read any page inside the cluster.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from springtide_api.schema import one_line
from springtide_operator.lifecycle.checks.prometheus_host import host_and_port, is_allowed
from springtide_operator.lifecycle.state.observed import NO_SERIES

if TYPE_CHECKING:
    from datetime import datetime

SECONDS = 10.0
"""Time for one answer."""
MAX_BYTES = 256 * 1024
"""Bytes of an answer that are read."""
MAX_QUOTED = 96
"""Characters of an error that are quoted."""

USERS_ERRORS = frozenset({"bad_data", "execution"})
"""Types of errors that the query causes."""


@dataclass(frozen=True)
class Answer:
    """A number, or why there is none."""

    value: float | None = None
    problem: str = ""
    invalid: bool = False
    """The query, the address or what the installation allows must be changed."""


@dataclass
class Prometheus:
    """A client of the HTTP API, for instant queries."""

    hosts: frozenset[str]
    seconds: float = SECONDS
    _session: aiohttp.ClientSession | None = field(default=None, init=False)

    async def ask(self, address: str, expression: str, at: datetime | None = None) -> Answer:
        """Return the number that a query has now, or at a moment."""
        if not is_allowed(address, self.hosts):
            host, port = host_and_port(address)
            return _invalid(f"host {host}:{port} is not allowed (value operator.prometheusHosts)")
        try:
            async with asyncio.timeout(self.seconds):
                return await self._ask(URL(address), expression, at)
        except TimeoutError:
            return Answer(problem=f"no answer within {self.seconds:g}s")
        except aiohttp.ClientError as error:
            return Answer(problem=f"no connection or a broken answer ({type(error).__name__})")

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, url: URL, expression: str, at: datetime | None) -> Answer:
        if self._session is None:
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(cookie_jar=jar, auto_decompress=False)
        words = {"query": expression, "timeout": f"{self.seconds:g}s"}
        if at is not None:
            words["time"] = f"{at.timestamp():.3f}"
        request = self._session.get(
            url / "api/v1/query",
            params=words,
            headers={"Accept-Encoding": "identity"},
            allow_redirects=False,
        )
        async with request as response:
            if 300 <= response.status < 400:
                return Answer(problem=f"HTTP {response.status}: redirects are not followed")
            body = await _read(response.content)
        if body is None:
            limit = f"the answer is longer than {MAX_BYTES // 1024} KiB"
            return _invalid(f"{limit}; a query must return one number")
        return read(body, response.status)


async def _read(content: aiohttp.StreamReader) -> bytes | None:
    """Read an answer; None: it is too long."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            return None
    return bytes(body)


def read(body: bytes, status: int) -> Answer:
    """Read an answer of the HTTP API."""
    try:
        answer = json.loads(body)
        if answer["status"] == "error":
            text = one_line(str(answer["error"]))[:MAX_QUOTED]
            invalid = answer.get("errorType") in USERS_ERRORS
            return Answer(problem=f"Prometheus: {text}", invalid=invalid)
        if answer["status"] == "success":
            return _number(answer["data"])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        pass
    return Answer(problem=f"HTTP {status}, and not the answer of a Prometheus")


def _number(data: dict[str, Any]) -> Answer:
    kind, result = data["resultType"], data["result"]
    if kind == "scalar":
        return _finite(result[1])
    if kind != "vector":
        return _invalid("the query returns a range or a text; it must return one number")
    if len(result) > 1:
        return _invalid(f"{len(result)} series; aggregate them, such as with sum()")
    if not result:
        return Answer(problem=NO_SERIES)
    if "value" not in result[0]:
        return _invalid("a histogram; use histogram_quantile()")
    return _finite(result[0]["value"][1])


def _finite(text: str) -> Answer:
    value = float(text)
    if not math.isfinite(value) or abs(value) > 1e99:
        return Answer(problem=f"the value is {value:g}")
    return Answer(value)


def _invalid(problem: str) -> Answer:
    return Answer(problem=problem, invalid=True)
