"""A stored generation that this version cannot read is named by the status of its update."""

from pathlib import Path
from types import SimpleNamespace

import yaml

from springtide_operator.cluster.api.kinds import GENERATION, UPDATE
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.reading.observer import Observer
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.observed import Defaults

MINIMAL = Path(__file__).parents[1] / "api" / "minimal.yaml"
NOON = "2026-03-01T12:00:00Z"


def stored(raw, name):
    """An object as the API server holds it."""
    metadata = {"name": name, "namespace": "search", "uid": f"uid-of-{name}", "generation": 1}
    raw["metadata"] = metadata | {"creationTimestamp": NOON, "resourceVersion": "7"}
    return raw


async def message_of(*, update=None, generation=None):
    """The message of Stalled, after changes of the spec of an update or of its generation."""
    cache = new_cache()
    made = yaml.safe_load(MINIMAL.read_text())
    made["spec"] |= update or {}
    cache.insert(UPDATE, stored(made, "ranker"))
    if generation is not None:
        spec = {"updateRef": {"name": "ranker"}, **generation}
        cache.insert(GENERATION, stored({"spec": spec}, "ranker-g3"))
    clock = SimpleNamespace(now=lambda: None)
    reader = LiveReader(SimpleNamespace(clock=clock))
    seen = await Observer(cache, reader, None, None, Defaults("i", "u"), set()).observe(
        "search", "ranker"
    )
    conditions = decide(seen, seen.metadata.creation_timestamp).status.conditions
    (stalled,) = (each for each in conditions if each.type == "Stalled")
    return stalled.message


async def test_a_generation_that_cannot_be_read_is_named_with_a_way_out():
    message = await message_of(generation={"number": "three"})
    assert message.startswith("ModelGeneration ranker-g3: spec.number: ")
    assert message.endswith(
        "; install the version of the operator that wrote it, or delete the generation"
    )


async def test_a_field_of_the_update_is_named_as_its_own():
    message = await message_of(update={"mode": "Sometimes"})
    assert message.startswith("spec.mode: ")
    assert message.endswith("; change it")
