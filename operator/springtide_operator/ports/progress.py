"""Receives progress reports of trainers: POST /progress/{namespace}/{job}, in memory only.

A report is accepted only with the projected token of a pod of that Job. After a restart the reports
are lost; the next ones come soon.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from springtide_operator.lifecycle.state.observed import ObservedProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

MAX_REPORT_BYTES = 16 * 1024
"""Bytes of a report."""
TOKEN_SECONDS = 60.0
"""A token is reviewed again after so long."""
MAX_TOKENS = 4096
MAX_REPORTS = 10_000


Bearer = tuple[str, str, str]
"""The pod that a token was issued to: namespace, name, uid."""


class ReviewUnavailable(Exception):
    """The token cannot be reviewed at the moment."""


class TokenReviewer(Protocol):
    """Reviews tokens, and checks to which Job a pod belongs."""

    async def review(self, token: str) -> Bearer | None:
        """Review a token of our audience; None: it is invalid.

        Raises:
            ReviewUnavailable: the review failed.
        """

    def is_of_job(self, bearer: Bearer, job: str) -> bool:
        """Whether the pod belongs to that Job."""


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class _Metric(_Camel):
    name: Annotated[str, Field(max_length=128)]
    value: float | str


class _Status(_Camel):
    progress_percentage: Annotated[float | None, Field(ge=0, le=100)] = None
    estimated_remaining_seconds: Annotated[float | None, Field(ge=0, le=1e9)] = None
    metrics: Annotated[list[_Metric], Field(max_length=256)] = []


class _Report(_Camel):
    trainer_status: _Status


@dataclass
class ProgressReports:
    """The last report of each Job."""

    _by_job: OrderedDict[tuple[str, str], ObservedProgress] = field(default_factory=OrderedDict)

    def of(self, namespace: str, job: str) -> ObservedProgress | None:
        """Return the last report of a Job."""
        return self._by_job.get((namespace, job))

    def put(self, namespace: str, job: str, report: ObservedProgress) -> None:
        """Keep a report; the oldest are dropped when there are too many."""
        self._by_job[namespace, job] = report
        self._by_job.move_to_end((namespace, job))
        if len(self._by_job) > MAX_REPORTS:
            self._by_job.popitem(last=False)


def read(body: bytes, at: datetime) -> ObservedProgress:
    """Read a report.

    Raises:
        ValueError: it is not JSON, has other fields, or has invalid numbers.
    """
    try:
        status = _Report.model_validate_json(body).trainer_status
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise ValueError(f"{where}: {first['msg']}") from None
    percent, eta = status.progress_percentage, status.estimated_remaining_seconds
    pairs = ((metric.name, _number(metric.value)) for metric in status.metrics)
    return ObservedProgress(
        percent=int(percent) if percent is not None else None,
        eta_seconds=int(eta) if eta is not None else None,
        metrics=tuple((name, value) for name, value in pairs if value is not None),
        at=at,
    )


def _number(value: float | str) -> float | None:
    """Numbers are sent as numbers or as text; invalid or infinite ones are dropped."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@dataclass
class ProgressServer:
    """The HTTP endpoint for progress reports.

    Args:
        token_reviewer: reviews tokens and finds pods.
        reports: where reports are kept.
        now: the API server's time.
        wake: called with namespace and Job after each report.
    """

    token_reviewer: TokenReviewer
    reports: ProgressReports
    now: Callable[[], datetime]
    wake: Callable[[str, str], None]
    _tokens: OrderedDict[bytes, tuple[float, Bearer | None]] = field(default_factory=OrderedDict)

    def application(self) -> web.Application:
        """Return the web application."""
        application = web.Application(client_max_size=MAX_REPORT_BYTES)
        application.router.add_post("/progress/{namespace}/{job}", self._report)
        return application

    async def _report(self, request: web.Request) -> web.Response:
        namespace, job = request.match_info["namespace"], request.match_info["job"]
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise web.HTTPUnauthorized(text="send the pod's token as Authorization: Bearer")
        try:
            bearer = await self._bearer(token.strip())
        except ReviewUnavailable:
            raise web.HTTPServiceUnavailable(text="report again later") from None
        if bearer is None:
            raise web.HTTPUnauthorized(text="the token is not valid for this service")
        if bearer[0] != namespace or not self.token_reviewer.is_of_job(bearer, job):
            raise web.HTTPForbidden(text="the token's pod is not of this Job")
        try:
            report = read(await request.read(), self.now())
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self.reports.put(namespace, job, report)
        self.wake(namespace, job)
        return web.json_response({})

    async def _bearer(self, token: str) -> Bearer | None:
        digest = hashlib.sha256(token.encode()).digest()
        now = time.monotonic()
        known = self._tokens.get(digest)
        if known is not None and now - known[0] < TOKEN_SECONDS:
            return known[1]
        bearer = await self.token_reviewer.review(token)
        self._tokens[digest] = (now, bearer)
        self._tokens.move_to_end(digest)
        if len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)
        return bearer


async def serve(application: web.Application, port: int) -> Callable[[], Awaitable[None]]:
    """Serve an application on a port of all addresses; call what is returned to end it."""
    runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner.cleanup
