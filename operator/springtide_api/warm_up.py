"""The file of warm-up queries: what an evaluation leaves beside a model for its servers.

It is outside the folder of the model, so no digest covers it, and a server starts without it. Any
trainer image may write it and any server may read it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from springtide_api.schema import Digest, Model

SUFFIX = ".warm-up.json"
"""The file of the folder `sha256-<hex>` is `sha256-<hex>.warm-up.json`, beside it."""
MAX_BYTES = 4 << 20
"""Maximum size of the file. Servers read no larger one."""
MAX_REQUESTS = 257


class WarmUpQueries(Model):
    """Inference requests of the Open Inference Protocol v2, made from rows of the holdout."""

    digest: Digest
    """Digest of the model: the value of `MODEL_DIGEST`."""
    requests: Annotated[list[dict[str, Any]], Field(max_length=MAX_REQUESTS)]
    """Bodies of POST /v2/models/{name}/infer, in the order in which they are sent."""
