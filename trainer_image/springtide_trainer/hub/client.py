"""Requests to a hub through huggingface_hub, which is offline for everything else.

The installation names the endpoint (`HF_ENDPOINT`), a Secret of the update the token (`HF_TOKEN`).
Pods run with `HF_HUB_OFFLINE=1`, so that no library asks a hub while it loads a model. Only clients
that are made here send requests, and only inside `online`.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn
from urllib.parse import urlsplit

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx2


@dataclass(frozen=True)
class Hub:
    """A hub and the right to read from it.

    Attributes:
        endpoint: URL without a slash at its end.
        token: False: none is sent.
    """

    endpoint: str
    token: str | Literal[False]

    @staticmethod
    def of(environ: Mapping[str, str], field: str) -> Hub:
        """Return the hub of the environment.

        Raises:
            Refused: the installation allows none, or the token cannot be one.
        """
        endpoint = environ.get("HF_ENDPOINT", "").rstrip("/")
        if not endpoint.startswith(("https://", "http://")):
            what = (
                "this installation allows no hub (HF_ENDPOINT is not a URL); set "
                "operator.hubEndpoint of the chart, or copy the model to the storage"
            )
            raise Refused("HubNotAllowed", what, field)
        token = environ.get("HF_TOKEN", "").strip()
        if not re.fullmatch(r"[!-~]*", token):
            what = "HF_TOKEN of the Secret that data.secretName names has characters of no token"
            raise Refused("NoAccess", f"{what}; correct it", field)
        return Hub(endpoint, token or False)

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]


@contextmanager
def online(hub: Hub) -> Iterator[None]:
    """Let huggingface_hub send requests in this block; from then on it cannot."""
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    own = httpx2.URL(hub.endpoint)

    def check(request: httpx2.Request) -> None:
        if own.scheme == "https" and request.url.scheme != "https":
            raise httpx2.UnsupportedProtocol(f"redirected from https to {request.url.scheme}")
        if _origin(request.url) != _origin(own):  # huggingface_hub trusts hosts of its own, too
            request.headers.pop("Authorization", None)

    def client() -> httpx2.Client:
        # Without a default timeout: huggingface_hub gives each request its own.
        return httpx2.Client(follow_redirects=True, timeout=None, event_hooks={"request": [check]})

    before = get_verbosity()
    set_verbosity(logging.CRITICAL)  # its messages have URLs that are signed, and answers
    set_client_factory(client)
    try:
        yield
    finally:
        set_client_factory(_offline)
        set_verbosity(before)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _offline() -> NoReturn:
    from huggingface_hub.errors import OfflineModeIsEnabled

    raise OfflineModeIsEnabled("only the import of an initial model asks a hub")
