"""Actuators: with an empty cache, or with an update that is observed as it was created."""

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


def actuator_with(client: Client) -> Actuator:
    """Return an actuator that knows no object."""
    cache = new_cache()
    return Actuator(
        client=client,
        cache=cache,
        live_reader=LiveReader(client),
        events=Events(client, "springtide"),
        status_writer=StatusWriter(client, cache),
        progress_url="http://progress",
    )


async def actuator_of(client: Client, namespace: str) -> Actuator:
    """Create the update of `tests/api/minimal.yaml` there, and return an actuator that knows it."""
    update = yaml.safe_load(MINIMAL.read_text())
    update["metadata"]["namespace"] = namespace
    actuator = actuator_with(client)
    actuator.cache.insert(UPDATE, await client.create(UPDATE, update))
    return actuator
