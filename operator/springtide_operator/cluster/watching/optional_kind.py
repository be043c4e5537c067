"""Watches a kind that may not be served, and only while an update needs it.

The CRD of a kind of others may be installed or removed at any time: neither stops the operator. A
cluster without such updates does not pay for the watch.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.watching.reflector import Reflector

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDED_SECONDS = 1.0
"""Until an update that needs the kind is noticed."""

MISSING_LISTS, STARTING_SECONDS = 3, 1.0
"""An API server that has just started does not know a kind yet: so many lists, so far apart, must
find none."""

UNAVAILABLE_SECONDS = 30.0
"""Until a CRD that was installed is noticed, or a right that was granted."""

log = structlog.get_logger(__name__)


@dataclass
class OptionalReflector(Reflector):
    """Fills one store from one kind, if it is served.

    Args:
        needed: whether an update needs the kind; the watch starts with the first one.
        install: what to install where the API server does not serve the kind.
    """

    needed: Callable[[], bool] = lambda: True
    install: str = ""
    _missing: int = 0
    """Lists in a row that found no such kind."""

    async def run(self) -> None:
        """Reflect until cancelled."""
        while not self.needed():
            await asyncio.sleep(NEEDED_SECONDS)
        await super().run()

    async def _list(self) -> None:
        await super()._list()
        self._missing = 0

    async def _failed(self, error: errors.ApiError) -> None:
        if not isinstance(error, errors.NotFound | errors.Forbidden):
            await super()._failed(error)
            return
        self._listed = False
        self._missing += 1
        self.watch_health.succeeded()  # the API server has answered
        if self._missing < MISSING_LISTS:
            await asyncio.sleep(STARTING_SECONDS)
            return
        why = self._unavailable(error)
        if self.store.unavailable != why:
            log.warning("kind is not available", kind=self.kind.name, error=str(error))
        served = not isinstance(error, errors.NotFound)
        self._notify(self.store.clear(why, served=served))
        await asyncio.sleep(UNAVAILABLE_SECONDS)

    def _unavailable(self, error: errors.ApiError) -> str:
        plural, group = self.kind.plural, self.kind.group
        if isinstance(error, errors.Forbidden):
            return (
                f"the operator may not list {plural} of {group}; install the RBAC rules of its "
                "version of the chart"
            )
        return f"the API server does not serve {plural} of {group}; install {self.install}"
