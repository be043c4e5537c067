"""Error responses: JSON with the reason in `error`, as in the protocol."""

from __future__ import annotations

from typing import Literal

from starlette.responses import JSONResponse

Outcome = Literal["ok", "invalid", "overloaded", "unready", "disconnected", "error"]
"""The outcome of a request, a label of the metrics."""
HEADERS = {408: {"Connection": "close"}, 503: {"Retry-After": "1"}}
"""Headers of a status."""


class Rejected(Exception):
    """A request without a prediction.

    Args:
        status: HTTP status. A response 503 has the header Retry-After: 1. After 408 the connection
            is closed, or a slow client could keep it for ever.
        message: What is wrong and what to do.
        outcome: The outcome in the metrics.
    """

    def __init__(self, status: int, message: str, outcome: Outcome = "invalid") -> None:
        super().__init__(message)
        self.status = status
        self.outcome: Outcome = outcome

    def response(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse({"error": str(self)}, self.status, headers=HEADERS.get(self.status))
