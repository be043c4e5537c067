"""The state of a server process: settings, the loaded model, and readiness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_server.admission import Admission
from springtide_server.answers import Rejected
from springtide_server.batching import Batcher
from springtide_server.generating.streams import Streams
from springtide_server.metrics import Metrics

if TYPE_CHECKING:
    from springtide_server.model import Model
    from springtide_server.settings import Settings

MAX_BODIES = 16
"""Maximum number of bodies of the maximum size in flight."""


@dataclass(frozen=True)
class Serving:
    """A loaded and warmed-up model with its queue."""

    model: Model
    batcher: Batcher
    streams: Streams


class Service:
    """The state that the endpoints read and the process changes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.model_name, settings.version, settings.model_digest)
        self.admission = Admission(settings.max_body, MAX_BODIES * settings.max_body)
        self.serving: Serving | None = None
        self.warm_up_key = ""
        """Set while the server answers its warm-up queries; only requests with it are answered."""
        self.draining = False
        self.metrics.ready.set_function(lambda: float(not self.not_ready))
        self.metrics.waiting_rows.set_function(self._waiting)

    @property
    def serves(self) -> bool:
        """Whether requests are answered."""
        return self.serving is not None and not self.warm_up_key

    @property
    def not_ready(self) -> str:
        """The reason why the server is not ready; empty if it is ready."""
        if self.draining:
            return "the server is shutting down"
        if self.serves:
            return ""
        if self.serving:
            return f"model {self.settings.model_digest} is answering warm-up queries"
        if self.settings.model_uri:
            return f"model {self.settings.model_digest} is loading"
        return "MODEL_URI is not set: no generation has been rolled out yet"

    def start(self, model: Model) -> Batcher:
        """Serve a loaded model; the caller runs the returned batcher."""
        batcher = Batcher(
            model.score,
            max_rows=self.settings.max_batch,
            max_delay=self.settings.max_delay,
            max_waiting=self.settings.max_waiting,
            observe=self._observe_batch,
        )
        self.metrics.set_source(model.source)
        self.serving = Serving(model, batcher, Streams(model.generate))
        return batcher

    def serving_or_reject(self, key: str = "") -> Serving:
        """Return the served model, also while draining.

        Args:
            key: The key of a warm-up query; empty for requests.

        Raises:
            Rejected: no model is loaded, or it is answering warm-up queries (503).
        """
        if self.serving is None or not (self.serves or self.is_warm_up(key)):
            raise Rejected(503, self.not_ready, "unready")
        return self.serving

    def is_warm_up(self, key: str) -> bool:
        """Return whether this is the key of the warm-up queries, which are no requests."""
        return bool(self.warm_up_key) and key == self.warm_up_key

    def _observe_batch(self, rows: int) -> None:
        if self.serves:
            self.metrics.batch_rows.observe(rows)

    def _waiting(self) -> float:
        return float(self.serving.batcher.rows_waiting) if self.serving else 0.0
