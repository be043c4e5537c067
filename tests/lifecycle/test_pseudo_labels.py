"""What the parent labelled is in the status, in the event and in the input of the report."""

from __future__ import annotations

from lifecycle.answers import LABELLED
from lifecycle.declared import SPEC
from lifecycle.world import MONTHS, World

from springtide_api.retained import PseudoLabelled
from springtide_operator.lifecycle.jobs.training_facts import (
    pseudo_label_message,
    pseudo_label_status,
    retained,
)

LABELLING = {**SPEC, "training": {"unlabelled": {"pseudoLabels": {}}}}


def test_what_the_parent_labelled_is_in_the_status_and_in_the_input_of_the_report() -> None:
    world = World(spec=LABELLING)
    world.months = MONTHS[:2]
    world.rounds(10)
    training = world.generation(1).status.training

    assert training.pseudo_labels.plain() == {
        "offered": 50,
        "used": 30,
        "byClass": ["0=10", "1=20"],
        "message": "",
    }
    (run,) = (s.run for s in world.runs.values() if s.run.stage == "evaluate")
    assert run.evaluate.retained.pseudo_labels.classes == {"0": 10, "1": 20}
    assert pseudo_label_message(LABELLED) == (
        "; 30 of 50 rows without a label labelled by the parent"
    )
    data = world.generation(1).spec.data
    assert (data.rows, data.unlabelled_rows) == (1000, 400)
    (started,) = (text for text in world.event_messages if text.startswith("shop-g1 trains on"))
    assert started.startswith(
        "shop-g1 trains on 600 rows and those of 400 without a label that its parent labels up to "
    )
    probes = [s.run for s in world.runs.values() if s.run.stage == "probe"]
    assert all(each.recipe.training.pseudo_labels for each in probes)


def test_why_no_row_was_labelled_is_said() -> None:
    assert pseudo_label_message(None) == ""
    made = PseudoLabelled(offered=1_200, message="the parent's head is untrained")
    assert pseudo_label_message(made) == (
        "; 0 of 1,200 rows without a label labelled by the parent: the parent's head is untrained"
    )
    world = World()
    world.months = MONTHS[:2]
    world.rounds(10)
    training = world.generation(1).status.training
    assert training.pseudo_labels is None
    labelled = training.model_copy(update={"pseudo_labels": pseudo_label_status(made)})
    assert retained(labelled).pseudo_labels == made
