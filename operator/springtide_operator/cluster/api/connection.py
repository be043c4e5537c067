"""How to reach the API server: configuration and transport of the official client.

Raw JSON goes in and out; address, certificates, token and when the token is read again are left to
`kubernetes.aio`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio import config as kubeconfig
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    import aiohttp

AGENT = "springtide-operator"

RELOAD_SECONDS = 5.0
"""A rejected token is read again at most this often."""

GOODBYE_SECONDS = 0.1
"""The session is closed before the TLS shutdown is complete; the loop must not end first."""


class Connection:
    """One session with the API server. Open it once and close it at the end."""

    def __init__(self, configuration: Configuration, file: Path | None) -> None:
        self._configuration = configuration
        self._file = file
        self._rest = RESTClientObject(configuration)
        self._reloaded = float("-inf")

    @classmethod
    async def open(cls, file: Path | None = None) -> Connection:
        """Connect by the given kubeconfig, else by KUBECONFIG, in the cluster, or by ~/.kube."""
        configuration = Configuration()
        await _load(configuration, file)
        # The client limits what is in flight; watches must not use up the pool.
        configuration.connection_pool_maxsize = 0
        # The session would read the environment and ~/.netrc in a thread, for every request.
        configuration.client_session_kwargs = {"trust_env": False}
        configuration.proxy = configuration.proxy or _proxy(str(configuration.host))
        return cls(configuration, file)

    @property
    def server(self) -> str:
        """Address of the API server."""
        return str(self._configuration.host)

    async def send(
        self,
        verb: str,
        path: str,
        *,
        body: Any,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """Send one request and return the answer with its body unread; release it."""
        headers = {
            "Accept": "application/json",
            "Content-Type": content_type,
            "User-Agent": AGENT,
        }
        if token := await self.token():
            headers["Authorization"] = token
        answer = await self._rest.request(  # type: ignore[no-untyped-call]
            verb,
            f"{self._configuration.host}{path}",
            headers=headers,
            body=body,
            _request_timeout=timeout,
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    def session(self, middleware: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """Open a session of its own with the same certificates; it sends no token by itself."""
        configuration = copy.copy(self._configuration)
        configuration.client_session_kwargs = {
            **(self._configuration.client_session_kwargs or {}),
            "middlewares": (middleware,),
            "headers": {"User-Agent": AGENT},
            "proxy": self._rest.proxy,
        }
        session: aiohttp.ClientSession = RESTClientObject(configuration)._create_pool_manager()
        return session

    async def token(self) -> str | None:
        """Return the current value of the header Authorization, if there is any.

        Raises:
            ConnectionError: it cannot be read now.
        """
        with _readable():
            token: str | None = await self._configuration.get_api_key_with_prefix("BearerToken")
            return token

    async def reload(self, now: float) -> None:
        """Read the credentials again after the server refused them (monotonic seconds)."""
        if now - self._reloaded >= RELOAD_SECONDS:
            self._reloaded = now
            with _readable():
                await _load(self._configuration, self._file)

    async def close(self) -> None:
        """End the session."""
        await self._rest.close()
        await asyncio.sleep(GOODBYE_SECONDS)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Treat unreadable credentials, as while a file is replaced, as a lost connection."""
    try:
        yield
    except kubeconfig.ConfigException as error:
        raise ConnectionError(f"no credentials: {error}") from error


def _proxy(address: str) -> str | None:
    """Return the proxy that the environment names for an address."""
    parts = urlsplit(address)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


async def _load(configuration: Configuration, file: Path | None) -> None:
    named = str(file) if file else os.environ.get("KUBECONFIG")
    if named is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        kubeconfig.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        return
    await kubeconfig.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=named, client_configuration=configuration, persist_config=False
    )
