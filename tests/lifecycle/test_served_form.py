"""serving.optimise: what is served is what was evaluated, and training continues from weights."""

from lifecycle.answers import digest
from lifecycle.declared import SPEC
from lifecycle.world import World, with_generation_one

from springtide_api.contract import RunFile
from springtide_operator.lifecycle.state.plan import StartJob
from springtide_operator.lifecycle.state.recipe import recipe, recipe_hash

INT8 = {"optimise": {"quantization": "Int8Dynamic"}}


def optimized(**options: object) -> World:
    """A world whose update asks for the optimized form from its import on."""
    world = World(spec={**SPEC, "serving": INT8}, **options)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    return world


def run_of_the_next_month(world: World) -> dict[str, RunFile]:
    """Let the next month arrive; return the run files of its Jobs by their stage."""
    started: dict[str, RunFile] = {}

    def record(seen: object, action: object) -> None:
        if isinstance(action, StartJob):
            started[action.run.stage] = action.run

    world.on_action = record
    world.months.append(world.next_month())
    world.rounds(8)
    return started


def folder(made: str) -> str:
    return f"file:///models/search/shop/artifacts/{made.replace(':', '-')}"


def test_the_optimized_form_is_evaluated_and_served_and_training_continues_from_the_weights():
    world = optimized()
    live = world.generation(1).status.artifact
    started = run_of_the_next_month(world)

    made = world.generation(2).status.artifact
    assert made.served_digest == digest(f"int8 {made.weights_digest}")
    assert (made.uri, made.format) == (folder(made.served_digest), "onnx")
    assert (world.target.digest, world.target.uri) == (made.served_digest, made.uri)
    assert started["train"].train.parent.digest == live.weights_digest
    assert started["train"].train.parent.uri == folder(live.weights_digest)
    asked = started["evaluate"].evaluate
    assert (asked.candidate.digest, asked.candidate.uri) == (made.served_digest, made.uri)
    assert (asked.baseline.digest, asked.baseline.uri) == (live.served_digest, live.uri)
    (message,) = (each for each in world.event_messages if "shop-g2 has weights" in each)
    assert message.endswith(f"; served as Int8Dynamic {made.served_digest}, 0.0 MB")


def test_a_changed_form_counts_for_the_next_generation_and_live_is_compared_as_it_is_served():
    world = with_generation_one()
    live = world.generation(1).status.artifact
    world.edit(serving=INT8)
    world.rounds(8)
    assert [*world.generations] == ["shop-g0", "shop-g1"], "a changed form starts no run"

    asked = run_of_the_next_month(world)["evaluate"].evaluate
    made = world.generation(2).status.artifact
    assert made.served_digest != made.weights_digest
    assert (asked.candidate.digest, asked.baseline.digest) == (
        made.served_digest,
        live.weights_digest,
    )
    world.edit(serving=None)
    asked = run_of_the_next_month(world)["evaluate"].evaluate
    last = world.generation(3).status.artifact
    assert last.served_digest == last.weights_digest
    assert (asked.candidate.digest, asked.baseline.digest) == (
        last.weights_digest,
        made.served_digest,
    )


def test_the_form_is_part_of_the_recipe_and_without_one_the_recipe_is_as_before():
    world = with_generation_one()
    before = recipe_hash(recipe(world.seen()))
    world.edit(serving={})
    assert recipe_hash(recipe(world.seen())) == before
    world.edit(serving=INT8)
    assert recipe_hash(recipe(world.seen())) != before


def test_an_imported_model_with_a_trained_head_is_served_in_the_optimized_form():
    world = optimized(seeded=False)
    initial = world.generation(0).status.artifact
    assert initial.served_digest == digest(f"int8 {initial.weights_digest}")
    assert world.served[0] == initial.served_digest


def test_equal_weights_in_another_form_are_evaluated_and_in_the_same_form_rejected():
    world = with_generation_one()
    world.edit(serving=INT8, training={"earlyStopping": {}})
    world.without_gain = True
    assert "evaluate" in run_of_the_next_month(world)
    assert world.generation(2).status.outcome == "Live"
    assert "evaluate" not in run_of_the_next_month(world)
    assert world.generation(3).status.reason == "SameWeights"


def test_a_trainer_image_that_writes_no_optimized_form_fails_the_generation():
    world = optimized()
    live = world.generation(1).status.artifact
    world.writes_forms = False
    run_of_the_next_month(world)
    status = world.generation(2).status
    assert (status.verdict, status.reason) == ("Failed", "OptimiseNotPossible")
    assert status.message == (
        "spec.serving.optimise.quantization is Int8Dynamic, but image trainer:1 wrote no "
        "optimized form; use a trainer image of this version, or remove spec.serving.optimise"
    )
    assert status.artifact is None
    assert world.target.digest == live.served_digest


def test_deleting_a_generation_deletes_its_weights_and_its_optimized_form():
    world = optimized()
    world.edit(history={"generations": 2, "rejected": 0})
    old = world.generation(1).status.artifact
    for _ in range(4):
        run_of_the_next_month(world)
    assert "shop-g1" not in world.generations
    assert not {folder(old.weights_digest), folder(old.served_digest)} & world.storage.folders
    for number in (4, 5):
        kept = world.generation(number).status.artifact
        assert {folder(kept.weights_digest), kept.uri} <= world.storage.folders
