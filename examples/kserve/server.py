"""Serves one generation of a classifier by KServe's model server, without KServe's controller.

MODEL_URI and MODEL_DIGEST are set by Springtide. Without them the server runs and has no model, so
`/v2/models/NAME/ready` is not 200. A model that must not be served ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from artifact import Refused, verified
from classifier import Classifier
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput
from kserve.protocol.dataplane import DataPlane

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = os.environ.get("MODEL_NAME", "model")
GENERATION = os.environ.get("SPRINGTIDE_GENERATION", "")
"""The pod's label, by the Downward API."""
MAX_ROWS = 4096


class Generation(Model):
    """A loaded generation.

    Args:
        classifier: its model.
        digest: MODEL_DIGEST.
    """

    def __init__(self, classifier: Classifier, digest: str) -> None:
        super().__init__(NAME)
        self._classifier = classifier
        self._digest = digest
        # One request after the other, and never in the event loop, which answers the probes.
        self._worker = ThreadPoolExecutor(max_workers=1)

    def load(self) -> bool:
        """Become ready by answering once."""
        self._classifier.probabilities([["warm up"]] * len(self._classifier.columns.names))
        return super().load()

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the inputs: BYTES [rows] for each column."""
        names = self._classifier.columns.names
        return [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in names]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the outputs."""
        labels = len(self._classifier.labels)
        return [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, labels]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ]

    async def predict(
        self, payload: InferRequest, headers: Mapping[str, str] | None = None
    ) -> InferResponse:
        """Score the rows of a request.

        Raises:
            InvalidInput: a tensor is missing or malformed; answered by 400.
        """
        columns = self._columns(payload)
        loop = asyncio.get_running_loop()
        scores = await loop.run_in_executor(self._worker, self._classifier.probabilities, columns)
        labels = [self._classifier.labels[best] for best in scores.argmax(axis=1)]
        outputs = [
            InferOutput("probabilities", list(scores.shape), "FP32", scores.ravel().tolist()),
            InferOutput("label", [len(labels)], "BYTES", labels),
        ]
        return InferResponse(
            payload.id or str(uuid.uuid4()),
            NAME,
            outputs,
            model_version=GENERATION,
            parameters={"digest": self._digest},
            requested_outputs=payload.request_outputs,
        )

    def _columns(self, payload: InferRequest) -> list[list[str]]:
        given = {tensor.name: tensor for tensor in payload.inputs}
        if sorted(given) != sorted(self._classifier.columns.names):
            raise InvalidInput(
                f"inputs must be {', '.join(self._classifier.columns.names)}, each once"
            )
        columns = [given[name].data for name in self._classifier.columns.names]
        if len({len(rows) for rows in columns}) != 1 or not 0 < len(columns[0]) <= MAX_ROWS:
            raise InvalidInput(f"inputs must have the same number of rows, 1 to {MAX_ROWS}")
        if not all(isinstance(value, str) for rows in columns for value in rows):
            raise InvalidInput("inputs must be of datatype BYTES, with strings as data")
        return columns


class VersionedDataPlane(DataPlane):
    """KServe's endpoints, with the generation at `/v2/models/NAME`."""

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Return the model's metadata of the Open Inference Protocol v2."""
        return {**await super().model_metadata(model_name), "versions": [GENERATION]}


def main() -> None:
    """Load the model, if there is one, and serve."""
    models = []
    if uri := os.environ.get("MODEL_URI"):
        digest = os.environ.get("MODEL_DIGEST", "")
        try:
            model = Generation(Classifier(verified(uri, digest)), digest)
        except (Refused, OSError) as refused:
            raise SystemExit(f"refused: {refused}") from refused
        model.load()
        models.append(model)
    server = ModelServer(enable_grpc=False, enable_latency_logging=False)
    for name in ("kserve.trace", "uvicorn.access"):  # three lines for each request
        logging.getLogger(name).setLevel(logging.WARNING)
    server.dataplane = VersionedDataPlane(server.registered_models)
    server.start(models)


if __name__ == "__main__":
    main()
