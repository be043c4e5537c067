"""Errors of the API server as types: callers tell them apart by type, never by text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_CANNOT_APPLY = "the server rejected our request due to an error in our request"
"""All that the API server says where the operations of a JSON Patch do not apply: no details."""


class ApiError(Exception):
    """The API server refused, failed or could not be reached. Trying again later may help.

    `status` is the HTTP status, 0 where there was no answer; `reason` the Kubernetes reason;
    `retry_after` the seconds that the server asked to wait. `max_backoff` bounds the back-off where
    the cause is not this object and may end at any moment; None: the usual limit applies.
    """

    max_backoff: float | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class NotFound(ApiError):
    """404: no such object, kind or namespace."""


class Conflict(ApiError):
    """409: another client changed, owns or deletes it; read again.

    `fields` are the paths of an apply that other managers own.
    """

    fields: frozenset[str] = frozenset()


class AlreadyExists(Conflict):
    """409 to a create: the name is taken, by us or by another."""


class PatchOutdated(Conflict):
    """422 to a JSON Patch: a `test` of it failed, or a path is gone; read again."""


class Forbidden(ApiError):
    """403: RBAC, quota, admission or a namespace that is being deleted."""

    max_backoff = 40.0


class Terminating(Forbidden):
    """403: the namespace is being deleted; nothing can be created in it."""


class Unauthorized(ApiError):
    """401: the token has expired or was revoked."""

    max_backoff = 20.0


class Invalid(ApiError):
    """400 and 422: the object is malformed; trying again does not help."""


class Gone(ApiError):
    """410: the resource version or the page token is too old; list again."""


class TooManyRequests(ApiError):
    """429: wait `retry_after` seconds."""

    max_backoff = 15.0


class Unavailable(ApiError):
    """5xx, or no connection: the server is down or overloaded."""

    max_backoff = 15.0


class Timeout(Unavailable):
    """No answer in time. A write may or may not have happened."""


class WebhookFailed(Unavailable):
    """500: an admission webhook that must be asked is down: nothing is written until it answers."""


class NotLeading(ApiError):
    """The Lease is not fresh, or the namespace is not ours: nothing was sent."""

    max_backoff = 15.0


_INTERNAL = (
    ("failed calling webhook", WebhookFailed),
    ("failed to create typed patch object", Invalid),
)
"""What the API server answers 500 to although it works: part of the message, and what it means. The
second is an apply that has a key of a list twice, or a field that is in no schema."""


_TYPES: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def from_status(
    status: int, body: Mapping[str, Any], what: str, *, retry_after: float | None = None
) -> ApiError:
    """Return the error that an answer stands for.

    Args:
        status: HTTP status, or `code` of a watch's ERROR event.
        body: a Kubernetes Status, or empty where the answer is not a Status.
        what: verb and path, for the message.
        retry_after: seconds from the header of that name.
    """
    reason = str(body.get("reason") or "")
    kind = _TYPES.get(status, Unavailable if status >= 500 else ApiError)
    if kind is Conflict and reason == "AlreadyExists":
        kind = AlreadyExists
    if kind is Invalid and body.get("message") == _CANNOT_APPLY:
        kind = PatchOutdated
    if status == 500:
        message = str(body.get("message") or "")
        kind = next((each for text, each in _INTERNAL if text in message), kind)
    details = body.get("details")
    details = details if isinstance(details, dict) else {}  # a proxy answers in a form of its own
    causes = details.get("causes") or []
    if kind is Forbidden and any(each.get("reason") == "NamespaceTerminating" for each in causes):
        kind = Terminating
    if retry_after is None:
        asked = details.get("retryAfterSeconds")
        retry_after = float(asked) if asked else None
    text = f"{what}: {status} {reason}: {body.get('message') or 'no message'}"
    error = kind(text, status=status, reason=reason, retry_after=retry_after)
    if isinstance(error, Conflict):
        owned = [each for each in causes if each.get("reason") == "FieldManagerConflict"]
        error.fields = frozenset(str(each.get("field")) for each in owned)
    return error
