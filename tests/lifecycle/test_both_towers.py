"""A generation with a new model of documents waits until a person says that an index has it."""

from __future__ import annotations

from lifecycle.declared import SPEC
from lifecycle.invariants import Invariants
from lifecycle.world import World


def of(tower: str) -> dict[str, object]:
    """Return the model of a spec that trains this tower."""
    return {**SPEC["model"], "task": "Embedding", "embedding": {"trainTower": tower}}


def trained(tower: str) -> World:
    """A world with an accepted generation 1, approval being automatic."""
    world = World(spec={**SPEC, "model": of(tower)})
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    return world


def test_a_generation_whose_queries_alone_were_trained_rolls_out_as_any_other() -> None:
    assert trained("Query").generation(1).status.outcome == "Live"


def test_a_generation_with_new_vectors_of_documents_waits_for_an_index() -> None:
    world = trained("Both")
    status = world.generation(1).status
    assert (status.verdict, status.phase, status.outcome) == ("Accepted", "AwaitingApproval", "")
    found = world.condition("ActionRequired")
    assert (found.status, found.reason) == ("True", "AwaitingApproval")
    assert found.message.startswith(
        "shop-g1 was accepted and waits for approval (trainTower is Both: first make an index of "
        "documents by its vectors, beside the live): kubectl --namespace search patch mg/shop-g1 "
    )
    world.months.append("2025-03")
    world.rounds(4)
    assert max(g.spec.number for g in world.generations.values()) == 1, "no other run starts"
    assert world.decide_on_approval("shop-g1", "Approved", "index documents-g1 is filled")
    world.rounds(2)
    assert world.generation(1).status.outcome == "Live"
    assert world.condition("ActionRequired").status == "False"


def test_it_waits_whatever_the_spec_says_by_then() -> None:
    """What was trained needs the index, not what the next run trains."""
    world = trained("Both")
    world.edit(model=of("Query"))
    world.rounds(3)
    assert world.generation(1).status.phase == "AwaitingApproval"
    assert world.decide_on_approval("shop-g1", "Approved")
    world.rounds(2)
    world.months.append("2025-03")
    world.rounds(8)
    assert world.generation(2).status.outcome == "Live"


def test_the_initial_model_needs_no_index_of_its_own() -> None:
    world = World(spec={**SPEC, "model": of("Both")}, seeded=False)
    Invariants(world)
    world.settle()
    world.rounds(2)
    assert world.update.status.live.number == 0
