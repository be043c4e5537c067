"""What a failed request to a hub means for the user, in this project's words.

Messages of huggingface_hub are not repeated: they have URLs that are signed, and texts of the hub.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_trainer.hub.client import Hub

UNAVAILABLE = "HubUnavailable"
"""Reason of what may go well when it is done again."""
TOKEN = "HF_TOKEN of the Secret that data.secretName names"
NO_HUB = "as no Hugging Face hub does; correct operator.hubEndpoint of the chart"
ANOTHER = "create the update with another"
"""The URI of the initial model is immutable."""
UNAUTHORIZED = 401
"""Without a token also the answer for a repository that does not exist."""
FORBIDDEN = 403
TEMPORARY = frozenset({408, 425, 429, *range(500, 600)})
_TEXT = 200


@contextmanager
def explained(hub: Hub, uri: str, field: str) -> Iterator[None]:
    """Turn errors of huggingface_hub into refusals.

    Raises:
        Refused: NoAccess, MissingModel, UnknownRevision, or HubUnavailable, after which the pod is
            retried.
        OSError: the disk is full, or cannot be written to.
    """
    import httpx2
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except HFValidationError:
        what = f"{uri} is no name of a repository of a hub; {ANOTHER}"
        raise Refused("InvalidUri", what, field) from None
    except LocalEntryNotFoundError as failed:  # a copy on this disk was looked for instead
        raise _refused(failed.__cause__ or failed, hub, uri, field) from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as failed:
        raise _refused(failed, hub, uri, field) from None
    except OSError as failed:
        if failed.errno is not None:
            raise
        raise _refused(failed, hub, uri, field) from None
    except (ValueError, KeyError, TypeError):  # of the answer's JSON
        raise unavailable(uri, f"{hub.host} answers {NO_HUB}") from None


def unavailable(uri: str, what: str) -> Refused:
    """Return the refusal after which a pod is retried."""
    return Refused(UNAVAILABLE, f"{uri}: {what}", code=ExitCode.ENVIRONMENT)


def cut_short(uri: str, hub: Hub) -> Refused:
    """Return the refusal of a file that ends too early."""
    return unavailable(uri, f"an answer of {hub.host} was cut short")


def _refused(failed: BaseException, hub: Hub, uri: str, field: str) -> Refused:
    import httpx2
    from huggingface_hub import errors

    match failed:
        case errors.GatedRepoError():
            return Refused(
                "NoAccess",
                f"{uri} is gated: accept its terms on the hub, and put a token of that account "
                f"into {TOKEN}",
                field,
            )
        case errors.RevisionNotFoundError():
            what = f"{uri}: the repository has no such branch, tag or commit"
            return Refused("UnknownRevision", f"{what}; {ANOTHER}", field)
        case errors.RepositoryNotFoundError():
            return _missing(hub, uri, field)
        case errors.HfHubHTTPError():
            return _status(failed.response.status_code, hub, uri, field)
        case errors.FileMetadataError():
            return unavailable(uri, f"{hub.host} names no commit or digest of a file, {NO_HUB}")
        case OSError() | httpx2.RemoteProtocolError():  # fewer bytes than were announced
            return cut_short(uri, hub)
    return unavailable(uri, f"a request to {hub.host} failed ({_plain(failed)})")


def _missing(hub: Hub, uri: str, field: str) -> Refused:
    """Refuse a repository that does not exist, or is not shown without a token that may read it."""
    return Refused(
        "MissingModel",
        f"{uri}: {hub.host} has no such repository, or it is private; {ANOTHER}, or put a token "
        f"that may read it into {TOKEN}",
        field,
    )


def _status(status: int, hub: Hub, uri: str, field: str) -> Refused:
    if status == UNAUTHORIZED and not hub.token:
        return _missing(hub, uri, field)
    if status in {UNAUTHORIZED, FORBIDDEN}:
        who = "the token may not read it" if hub.token else "it needs a token"
        what = f"{uri}: {hub.host} denies access ({status}), {who}; correct {TOKEN}"
        return Refused("NoAccess", what, field)
    odd = "" if status in TEMPORARY else f", {NO_HUB}"
    return unavailable(uri, f"{hub.host} answers with status {status}{odd}")


def _plain(error: BaseException) -> str:
    """Return an error of a connection in one line, without queries of URLs."""
    text = re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:_TEXT] if text else type(error).__name__
