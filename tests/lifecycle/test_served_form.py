"""serving.optimise: what is served is what was evaluated, and training continues from weights."""

import pytest
from lifecycle.answers import digest
from lifecycle.declared import SPEC
from lifecycle.world import World, with_generation_one

from springtide_api.contract import RunFile
from springtide_operator.lifecycle.state.plan import StartJob
from springtide_operator.lifecycle.state.recipe import recipe, recipe_hash

INT8 = {"optimise": {"quantization": "Int8Dynamic"}}


def pruned(sparsity: str, **others: str) -> dict[str, dict[str, object]]:
    return {"optimise": {**others, "pruning": {"sparsity": sparsity}}}


PRUNED = pruned("0.5")
BOTH = pruned("0.5", quantization="Int8Dynamic")


def optimized(form: dict[str, dict[str, object]] = INT8, **options: object) -> World:
    """A world whose update asks for the optimized form from its import on."""
    world = World(spec={**SPEC, "serving": form}, **options)
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


@pytest.mark.parametrize(
    ("form", "words", "file_format"),
    [
        (INT8, "Int8Dynamic", "onnx"),
        (PRUNED, "sparsity 0.5", "safetensors"),
        (BOTH, "Int8Dynamic, sparsity 0.5", "onnx"),
    ],
)
def test_the_optimized_form_is_evaluated_and_served_and_training_continues_from_the_weights(
    form, words, file_format
):
    world = optimized(form)
    live = world.generation(1).status.artifact
    started = run_of_the_next_month(world)

    made = world.generation(2).status.artifact
    assert made.served_digest == digest(f"{words} {made.weights_digest}")
    assert (made.uri, made.format) == (folder(made.served_digest), file_format)
    assert (world.target.digest, world.target.uri) == (made.served_digest, made.uri)
    assert started["train"].train.parent.digest == live.weights_digest
    assert started["train"].train.parent.uri == folder(live.weights_digest)
    asked = started["evaluate"].evaluate
    assert (asked.candidate.digest, asked.candidate.uri) == (made.served_digest, made.uri)
    assert (asked.baseline.digest, asked.baseline.uri) == (live.served_digest, live.uri)
    (message,) = (each for each in world.event_messages if "shop-g2 has weights" in each)
    assert message.endswith(f"; served as {words} {made.served_digest}, 0.0 MB")


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


def test_the_number_of_warm_up_queries_reaches_the_evaluation_and_is_no_other_recipe():
    world = with_generation_one()
    before = recipe_hash(recipe(world.seen()))
    world.edit(serving={"warmUp": {"queries": 5}})
    assert recipe_hash(recipe(world.seen())) == before

    asked = run_of_the_next_month(world)["evaluate"].recipe
    assert asked.serving.warm_up.queries == 5
    assert world.generation(2).status.artifact.format == "safetensors"


def test_the_form_is_part_of_the_recipe_and_without_one_the_recipe_is_as_before():
    world = with_generation_one()
    before = recipe_hash(recipe(world.seen()))
    world.edit(serving={})
    assert recipe_hash(recipe(world.seen())) == before
    hashes = [before]
    for form in (INT8, PRUNED, BOTH, pruned("0.6")):
        world.edit(serving=form)
        hashes.append(recipe_hash(recipe(world.seen())))
    assert len({*hashes}) == len(hashes), "each form is another recipe, as is each sparsity"


def test_the_recipe_of_a_quantized_form_is_as_it_was_before_there_was_pruning():
    """Else an upgrade of the operator would train on windows again that were judged before."""
    world = optimized()
    assert recipe(world.seen()).serving.plain() == INT8


def test_an_imported_model_with_a_trained_head_is_served_in_the_optimized_form():
    world = optimized(seeded=False)
    initial = world.generation(0).status.artifact
    assert initial.served_digest == digest(f"Int8Dynamic {initial.weights_digest}")
    assert world.served[0] == initial.served_digest


def test_equal_weights_in_another_form_are_evaluated_and_in_the_same_form_rejected():
    world = with_generation_one()
    world.edit(serving=INT8, training={"earlyStopping": {}})
    world.without_gain = True
    assert "evaluate" in run_of_the_next_month(world)
    assert world.generation(2).status.outcome == "Live"
    assert "evaluate" not in run_of_the_next_month(world)
    assert world.generation(3).status.reason == "SameWeights"


def test_equal_weights_of_another_sparsity_are_another_form_that_is_evaluated():
    world = optimized(PRUNED)
    world.edit(training={"earlyStopping": {}})
    world.without_gain = True
    assert "evaluate" not in run_of_the_next_month(world)
    assert world.generation(2).status.reason == "SameWeights"

    before = world.generation(1).status.artifact
    world.edit(serving=pruned("0.6"))
    asked = run_of_the_next_month(world)["evaluate"].evaluate
    made = world.generation(3).status.artifact
    assert (made.weights_digest, world.generation(3).status.outcome) == (
        before.weights_digest,
        "Live",
    )
    assert asked.baseline.digest == before.served_digest != made.served_digest
    assert world.target.digest == made.served_digest


def test_a_rollback_returns_to_the_form_before_and_the_form_is_not_served_again():
    world = optimized(pruned("0.3"))
    world.edit(serving=pruned("0.9"), training={"earlyStopping": {}})
    world.without_gain = True
    run_of_the_next_month(world)
    first, second = (world.generation(number).status.artifact for number in (1, 2))
    assert second.weights_digest == first.weights_digest
    assert world.target.digest == second.served_digest
    world.ask("rollback.g2@1")
    world.rounds(3)
    assert world.target.digest == first.served_digest

    world.ask("retry@2")
    world.rounds(8)
    third = world.generation(3).status
    assert third.artifact.served_digest == second.served_digest
    assert (third.outcome, third.retired_reason) == ("Retired", "WeightsRolledBack")
    world.edit(serving=pruned("0.5"))
    run_of_the_next_month(world)
    fourth = world.generation(4).status
    assert (fourth.outcome, fourth.artifact.weights_digest) == ("Live", first.weights_digest)
    assert world.target.digest == fourth.artifact.served_digest


def test_a_form_that_is_edited_during_a_training_counts_for_the_next_generation():
    world = optimized()
    world.months.append(world.next_month())
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.round()
    world.edit(serving=BOTH)
    world.rounds(8)
    second = world.generation(2)
    assert second.spec.recipe.serving.plain() == INT8
    assert second.status.artifact.served_digest == digest(
        f"Int8Dynamic {second.status.artifact.weights_digest}"
    )
    assert second.status.outcome == "Live"
    run_of_the_next_month(world)
    third = world.generation(3).status.artifact
    assert third.served_digest == digest(f"Int8Dynamic, sparsity 0.5 {third.weights_digest}")


@pytest.mark.parametrize(
    ("form", "known", "asked", "wrote"),
    [
        (INT8, [], "Int8Dynamic", "none"),
        (PRUNED, [], "sparsity 0.5", "none"),
        (BOTH, ["quantization"], "Int8Dynamic, sparsity 0.5", "Int8Dynamic"),
    ],
)
def test_a_trainer_image_that_writes_another_form_fails_the_generation(form, known, asked, wrote):
    world = optimized(form)
    live = world.generation(1).status.artifact
    world.forms = known
    run_of_the_next_month(world)
    status = world.generation(2).status
    assert (status.verdict, status.reason) == ("Failed", "OptimiseNotPossible")
    assert status.message == (
        f"spec.serving.optimise asks for {asked}, but image trainer:1 wrote {wrote}; use a trainer "
        "image of this version, or remove spec.serving.optimise"
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
