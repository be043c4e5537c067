"""The example of Embedding without a cluster: `springtide-trainer run`, then its server."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
import torch
import yaml
from demo.cluster import EXAMPLES
from e2e import small_model

from springtide_server.app import build_app
from springtide_server.model import load
from springtide_server.service import Service
from springtide_server.settings import Settings
from springtide_trainer.artifact import manifest
from springtide_trainer.local.commands import main
from springtide_trainer.local.lineage import Generations
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.towers import DOCUMENT_WEIGHTS

MONTHS = ("2026-01", "2026-02", "2026-03")
PRODUCTS = [
    f"{quality} {thing}"
    for quality in small_model.GOOD + small_model.BAD
    for thing in small_model.THINGS
]


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the example up to a moment."""
    small_model.publish(tmp_path / "tiny", head=False)
    (tmp_path / "data").mkdir()
    for month in MONTHS:
        (tmp_path / "data" / f"{month}.csv.gz").write_bytes(small_model.purchases(month))
    made = yaml.safe_load((EXAMPLES / "tasks" / "retrieval.yaml").read_text())
    made["spec"]["model"]["maxLength"] = small_model.TOKENS
    made["spec"]["training"]["hyperparameters"] = small_model.RETRIEVAL
    # Both models are nearly perfect, so that few customers show a difference.
    for rule in made["spec"]["gate"]["rules"][1:]:
        rule |= {"metric": "mrr", "minEntities": 10, "maxRegression": {"absolute": "0.1"}}
    (tmp_path / "update.yaml").write_text(json.dumps(made))
    places = [f"--data={tmp_path / 'data'}", f"--model={tmp_path / 'tiny'}"]
    command = ["run", str(tmp_path / "update.yaml"), *places, f"--storage={tmp_path / 'out'}"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda through: main([*command, "--through", through])
    torch.set_num_threads(threads)


def tower(generation):
    """Return the digest of the model of documents."""
    made = generation.artifact
    files = manifest.read_manifest(local_path(made.uri), made.digest)
    return next(file["sha256"] for file in files if file["path"] == DOCUMENT_WEIGHTS)


@asynccontextmanager
async def running(batcher):
    """Score requests in the block."""
    task = asyncio.create_task(batcher.run())
    try:
        yield
    finally:
        task.cancel()


async def asked(client, **inputs):
    body = {
        "inputs": [
            {"name": name, "shape": [len(rows)], "datatype": "BYTES", "data": rows}
            for name, rows in inputs.items()
        ]
    }
    answer = (await client.post("/v2/models/model/infer", json=body)).json()
    (vectors,) = answer["outputs"]
    return np.array(vectors["data"]).reshape(vectors["shape"]), answer["parameters"]


async def test_two_months_are_trained_on_and_the_first_index_serves_both(run, tmp_path, capsys):
    codes = [run("2026-03-01"), run("2026-04-01")]
    out, errors = capsys.readouterr()
    assert codes == [0, 0], out + errors
    initial, first, second = Generations.read(tmp_path / "out" / "shop" / "retrieval").generations
    assert (first.verdict, second.verdict) == ("Accepted", "Accepted"), out
    assert tower(initial) == tower(first) == tower(second), "the vectors of an index stay valid"

    written = json.loads((local_path(second.report) / "metrics.json").read_text())
    assert written["task"] == "Embedding"
    found = written["datasets"][0]["metrics"]["recall@10"]
    assert found["candidate"]["value"] > 0.6

    index, answered = None, {}
    for generation in (initial, second):
        made = generation.artifact
        service = Service(Settings(model_uri=made.uri, model_digest=made.digest))
        batcher = service.start(load(service.settings))
        transport = httpx.ASGITransport(build_app(service))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://server") as client,
            running(batcher),
        ):
            if index is None:
                index, _ = await asked(client, text_pair=PRODUCTS)
            query, parameters = await asked(client, text=["the sturdy mug"])
            assert parameters["documents"] == f"sha256:{tower(initial)}"
            order = (query @ index.T)[0].argsort()[::-1]
            answered[generation.number] = [PRODUCTS[at] for at in order[:5]]
    assert "lovely lamp" in answered[2], "searches name a product by the words after its own"
    assert answered[0] != answered[2]
