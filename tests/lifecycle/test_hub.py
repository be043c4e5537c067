"""An update whose initial model comes from a Hugging Face hub."""

from __future__ import annotations

from typing import Any

import pytest
from lifecycle.declared import SPEC
from lifecycle.world import MONTHS, World

URI = "hf://shop/minilm@main"


def of_a_hub(**model: Any) -> dict[str, Any]:
    return {**SPEC, "model": {**SPEC["model"], "initial": {"uri": URI}, **model}}


def deliver(world: World, months: int) -> None:
    world.months = MONTHS[:months]
    world.rounds(10)


@pytest.fixture
def world() -> World:
    return World(spec=of_a_hub())


def test_the_commit_that_was_imported_is_in_status_and_event(world: World) -> None:
    deliver(world, 2)
    (run,) = [start.run for start in world.runs.values() if start.run.imported]
    assert run.imported.uri == URI
    imported = world.generation(0)
    commit = imported.status.artifact.commit
    assert len(commit) == 40
    assert imported.spec.initial.uri == URI
    (message,) = [text for text in world.event_messages if URI in text]
    assert message == (
        f"shop-g0 has weights {imported.status.artifact.weights_digest} of {URI}, commit {commit}"
    )
    assert world.generation(1).status.artifact.commit is None


def test_a_model_of_another_place_has_no_commit() -> None:
    world = World()
    world.rounds(10)
    assert world.generation(0).status.artifact.commit is None


def test_without_a_hub_nothing_is_imported_and_a_user_must_act(world: World) -> None:
    world.hub_endpoint = ""
    world.settle()
    for name in ("ActionRequired", "Stalled"):
        required = world.condition(name)
        assert (required.status, required.reason) == ("True", "HubNotAllowed")
        assert "set operator.hubEndpoint of the chart" in required.message
    assert not world.generations
    assert not world.jobs


def test_the_import_starts_when_the_installation_names_a_hub(world: World) -> None:
    world.hub_endpoint = ""
    world.settle()
    world.hub_endpoint = "https://mirror.example"
    world.rounds(10)
    assert world.generation(0).status.verdict == "Imported"
    assert world.condition("ActionRequired").status == "False"


def test_an_update_goes_on_though_the_installation_uses_no_hub_any_more(world: World) -> None:
    deliver(world, 2)
    assert world.update.status.live.number == 1
    world.hub_endpoint = ""
    deliver(world, 3)
    assert world.update.status.live.number == 2
    assert world.condition("ActionRequired").status == "False"
