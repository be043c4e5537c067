"""An actuator of a namespace, with an update that is observed as it was created."""

from pathlib import Path

import yaml

from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.kinds import UPDATE
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.cluster.writing.actuator import Actuator
from springtide_operator.cluster.writing.events import Events
from springtide_operator.cluster.writing.status_writer import StatusWriter

MINIMAL = Path(__file__).parents[1] / "api" / "minimal.yaml"


async def actuator_of(client: Client, namespace: str) -> Actuator:
    """Create the update of `tests/api/minimal.yaml` there, and return an actuator that knows it."""
    cache = new_cache()
    update = yaml.safe_load(MINIMAL.read_text())
    update["metadata"]["namespace"] = namespace
    cache.insert(UPDATE, await client.create(UPDATE, update))
    return Actuator(
        client=client,
        cache=cache,
        live_reader=LiveReader(client),
        events=Events(client, "springtide"),
        status_writer=StatusWriter(client, cache),
        progress_url="http://progress",
    )
