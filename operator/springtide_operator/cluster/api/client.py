"""The API server as verbs over raw JSON: no generated models, typed errors, a timeout on all.

Every answer updates the clock; every write asks the guard first (do we hold the Lease?) and calls
the write hooks, so that tests can stop the operator before or after any write.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

import aiohttp
from pydantic_core import from_json

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import identity
from springtide_operator.cluster.api.responses import failure_of, lines, translated_errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from typing import Any

    from springtide_operator.cluster.api.clock import ServerClock
    from springtide_operator.cluster.api.connection import Connection
    from springtide_operator.cluster.api.kinds import Kind, Raw
    from springtide_operator.cluster.api.limits import Limits

JSON = "application/json"

APPLY = "application/apply-patch+yaml"

JSON_PATCH = "application/json-patch+json"

PAGE = 500
"""Objects in one page of a list."""


class WriteHook(Protocol):
    """Called for every write; an exception reaches the caller of the write."""

    async def before_write(self, number: int, verb: str, path: str) -> None:
        """Just before the `number`-th write, counted from 1, is sent."""

    async def after_write(self, number: int, verb: str, path: str) -> None:
        """Just after the `number`-th write succeeded."""


@dataclass(frozen=True)
class Listed:
    """All objects of a list at one resource version."""

    items: list[Raw]
    version: int
    within: frozenset[str] | None = None
    """Namespaces that the list says something of; None: all."""


@dataclass
class Client:
    """Requests over one connection.

    Args:
        connection: address, credentials and transport.
        clock: learns the server's time from every answer.
        limits: shared by all clients that should share a limit.
        guard: called with the path of a write; raises `NotLeading` where it may not be sent now.
        write_hooks: called for every write.
        count: called with verb and status of every answer, 0 where none came.
        timeout: seconds for each request; watches have their own.
    """

    connection: Connection
    clock: ServerClock
    limits: Limits
    guard: Callable[[str], None] | None = None
    write_hooks: list[WriteHook] = field(default_factory=list)
    count: Callable[[str, int], None] = lambda verb, status: None
    timeout: float = 10.0
    _writes: int = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Raw:
        """Read one object, live."""
        return await self._ask("GET", kind.path(namespace, name))

    async def served(self, group: str, version: str) -> set[str]:
        """Return the plurals of the kinds that discovery lists; empty for an unknown group."""
        groups = (await self._ask("GET", "/apis")).get("groups") or []
        if group not in {each["name"] for each in groups}:
            return set()
        try:
            listed = await self._ask("GET", f"/apis/{group}/{version}")
        except errors.NotFound:
            return set()
        return {each["name"] for each in listed.get("resources") or []}

    async def list_all(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        within: Callable[[], frozenset[str] | None] = lambda: None,
    ) -> Listed:
        """List consistently, in pages. Items carry kind and apiVersion like single objects.

        `within` names the namespaces whose objects are kept; others are dropped page by page. It is
        asked when the first page has arrived: a namespace that comes later is newer than the list.

        Raises:
            Gone: the list took so long that its pages expired; list again.
        """
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields}
        items: list[Raw] = []
        kept: frozenset[str] | None = None
        token = ""
        while True:
            answer = await self._ask("GET", kind.path(namespace), {**query, "continue": token})
            kept = kept if token else within()
            page = answer.get("items") or []
            items += (each for each in page if kept is None or identity(each)[0] in kept)
            metadata = answer["metadata"]
            token = metadata.get("continue") or ""
            if not token:
                break
        for item in items:
            item["kind"], item["apiVersion"] = kind.name, kind.api_version
        return Listed(items, int(metadata["resourceVersion"]), kept)

    async def watch(
        self, kind: Kind, namespace: str = "", *, labels: str, version: int, seconds: int
    ) -> AsyncGenerator[Raw]:
        """Yield watch events from a resource version on, for `seconds` at most.

        Raises:
            Gone: the version is too old; list again.
            Timeout: nothing ended the watch in time; continue from the last version.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(version),
            "timeoutSeconds": str(seconds),
            "labelSelector": labels,
        }
        timeout = aiohttp.ClientTimeout(total=seconds + self.timeout, connect=self.timeout)
        url = _url(kind.path(namespace), query)
        with translated_errors("WATCH", url):
            response = await self._send("GET", url, None, JSON, timeout=timeout)
            async with response:
                async for line in lines(response):
                    event = from_json(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise errors.from_status(
                            int(status.get("code") or 500), status, f"WATCH {url}"
                        )
                    yield event

    async def create(self, kind: Kind, body: Raw) -> Raw:
        """POST an object to its namespace; of a cluster's kind, to the cluster.

        Raises:
            AlreadyExists: the name is taken.
        """
        path = (
            kind.path(body["metadata"].get("namespace", "")) if "metadata" in body else kind.path()
        )
        return await self._write("POST", path, body, JSON)

    async def review(self, kind: Kind, body: Raw) -> Raw:
        """POST a review such as a TokenReview: it changes nothing and does not count as a write."""
        return await self._ask("POST", kind.path(), body=body)

    async def replace(self, kind: Kind, body: Raw) -> Raw:
        """PUT an object; with its resourceVersion it fails if the object was changed since."""
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"])
        return await self._write("PUT", path, body, JSON)

    async def apply(
        self, kind: Kind, body: Raw, *, manager: str, force: bool = False, subresource: str = ""
    ) -> Raw:
        """Server-side apply: afterwards the manager owns exactly the fields of `body`.

        Raises:
            Conflict: another manager owns a field, or `metadata.uid` is not the object's.
        """
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        full = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        return await self._write("PATCH", _url(path, query), full, APPLY)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        operations: list[Raw],
        *,
        manager: str,
        subresource: str = "",
    ) -> Raw:
        """Patch by JSON Patch; put a `test` in front where it must not race."""
        path = _url(kind.path(namespace, name, subresource), {"fieldManager": manager})
        return await self._write("PATCH", path, operations, JSON_PATCH)

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str,
        version: int | None = None,
        propagation: str = "Background",
    ) -> Raw:
        """Delete exactly this object, and only at `version` where that is given.

        Returns a Status where it is gone, the object where finalizers hold it.

        Raises:
            Conflict: it is another object, or was changed since.
        """
        preconditions = {"uid": uid} | ({"resourceVersion": str(version)} if version else {})
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": preconditions,
            "propagationPolicy": propagation,
        }
        return await self._write("DELETE", kind.path(namespace, name), body, JSON)

    async def _write(self, verb: str, path: str, body: Any, content_type: str) -> Raw:
        self._writes += 1
        number = self._writes
        if self.guard is not None:
            self.guard(path)
        for hook in self.write_hooks:
            await hook.before_write(number, verb, path)
        answer = await self._ask(verb, path, body=body, content_type=content_type, write=True)
        for hook in self.write_hooks:
            await hook.after_write(number, verb, path)
        return answer

    async def _ask(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = JSON,
        write: bool = False,
    ) -> Raw:
        url = _url(path, query or {})
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        with translated_errors(verb, url):
            async with self.limits.slot():
                if write and self.guard is not None:
                    self.guard(path)  # once more: the wait for a slot may have been long
                response = await self._send(verb, url, body, content_type, timeout=timeout)
                async with response:
                    # Equal strings share memory: an object is mostly names and keys.
                    answer: Raw = from_json(await response.read(), cache_strings="all")
                    return answer

    async def _send(
        self, verb: str, url: str, body: Any, content_type: str, *, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        sent = time.monotonic()
        status = 0
        try:
            response = await self.connection.send(
                verb, url, body=body, content_type=content_type, timeout=timeout
            )
            status = response.status
        finally:
            self.count(verb, status)
        received = time.monotonic()
        if date := response.headers.get("Date"):
            self.clock.learn(date, sent=sent, received=received)
        if status < 300:
            return response
        async with response:
            failure = await failure_of(response, f"{verb} {url}")
        if status == 401:
            await self.connection.reload(received)
        raise failure


def _url(path: str, query: Mapping[str, str]) -> str:
    filled = {key: value for key, value in query.items() if value}
    return f"{path}?{urlencode(filled)}" if filled else path
