"""Writes a notification as a CloudEvent 1.0 in JSON, in the structured mode of HTTP.

The body alone is the event: a receiver may store, sign or forward it without the headers, and text
beyond ASCII needs no encoding of header values. These few members need no library.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from springtide_api.names import API_VERSION, UPDATES

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.plan import Notification

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


def cloud_event(notification: Notification) -> bytes:
    """Return the body of the request that sends a notification."""
    n = notification
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": n.id,
        "source": f"/apis/{API_VERSION}/namespaces/{n.namespace}/{UPDATES}/{n.update}",
        "type": f"dev.springtide.update.{n.kind}.v1",
        "datacontenttype": "application/json",
    }
    if n.at is not None:
        event["time"] = f"{n.at:%Y-%m-%dT%H:%M:%SZ}"
    if n.generation:
        event["subject"] = n.generation
    names = ("namespace", "update", "generation", "verdict", "outcome", "reason", "message")
    event["data"] = {name: getattr(n, name) for name in (*names, "live", "previous")}
    return json.dumps(event).encode()
