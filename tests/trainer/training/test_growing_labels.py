"""Labels grow from one generation to the next: head, floor of replay and buffer follow."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from trainer.training.conftest import World, freeze, imported, publish, toy_rows
from trainer.training.test_multi_label import SEVERAL, labelled

from springtide_trainer.artifact.models import load
from springtide_trainer.data.snapshots import replay_buffer
from springtide_trainer.errors import Refused
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import RunFile, TrainOutput
    from springtide_api.generation.spec import ReplayBuffer

ALL = ["no", "yes", "later", "never"]
WORDS = {"later": ["shoe", "red"], "never": ["lamp", "blue"]}
FAST = {"maxSteps": 4, "batchSize": 8, "learningRate": "1e-3"}
LEARNT = {
    "maxSteps": 120,
    "batchSize": 16,
    "learningRate": "2e-3",
    "freeze": {"embeddings": False},
}


def of_label(label: str, count: int = 24) -> dict[str, list[Any]]:
    """Return rows of one appended label, which two words decide."""
    texts = [f"{WORDS[label][n % 2]} the a" for n in range(count)]
    return {
        "text": texts,
        "label": [label] * count,
        "entity": [f"{label}-{n}" for n in range(count)],
    }


def run_of(
    world: World, job: str, labels: list[str], buffer: ReplayBuffer | None = None, **fast: Any
) -> RunFile:
    replay = {"ratio": "0", "rowsPerClass": 6, "bufferRows": 6 * len(labels)}
    world.model = {"labels": labels}
    run = world.run_file(job, hyperparameters=FAST | fast, retention={"replay": replay})
    assert run.train
    given = run.train.model_copy(update={"buffer": buffer})
    return run.model_copy(update={"train": given})


def trained(world: World, run: RunFile) -> TrainOutput:
    made = world.train(run)
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    world.parent = made.artifact
    return made


def labels_of(buffer: ReplayBuffer) -> Counter[str]:
    rows = pq.read_table(local_path(buffer.uri) / replay_buffer.ROWS)
    return Counter(rows["label"].to_pylist())


def head(made: Any) -> Any:
    return load_file(local_path(made.uri) / "model.safetensors")["classifier.weight"]


def test_each_appended_label_raises_the_floor_and_the_classes_before_it_are_kept(world):
    first = trained(world, run_of(world, "g1-train-1", ALL[:2]))
    assert labels_of(first.buffer) == {"no": 6, "yes": 6}
    world.data = freeze(world.home, of_label("later"))
    second = trained(world, run_of(world, "g2-train-1", ALL[:3], first.buffer))
    world.data = freeze(world.home, of_label("never"))
    third = trained(world, run_of(world, "g3-train-1", ALL, second.buffer))

    assert second.replay.classes == {"later": 0, "no": 6, "yes": 6}
    assert third.replay.classes == {"never": 0, "later": 6, "no": 6, "yes": 6}
    assert labels_of(second.buffer) == dict.fromkeys(ALL[:3], 6)
    assert labels_of(third.buffer) == dict.fromkeys(ALL, 6)
    assert load(local_path(third.artifact.uri), third.artifact.digest).task.outputs == ALL


def worst_recall(made: TrainOutput) -> float:
    """Return the lower of the recalls of the first two labels, which later rows do not have."""
    scorer = load(local_path(made.artifact.uri), made.artifact.digest)
    rows = toy_rows(60, seed=9)
    scores = scorer.predict([(text, None) for text in rows["text"]]).argmax(axis=1)
    found = [(label, ALL[code]) for label, code in zip(rows["label"], scores, strict=True)]
    each = ([code == label for label, code in found if label == name] for name in ALL[:2])
    return min(sum(right) / len(right) for right in each)


def test_without_replay_a_class_that_no_longer_arrives_is_forgotten(world):
    # With seeds 7, 8 and 9, and 120 or 240 steps: 1.0 with replay and 0.0 without it.
    first = trained(world, run_of(world, "g1-train-1", ALL[:2], **LEARNT))
    assert worst_recall(first) > 0.9
    world.data = freeze(world.home, of_label("later", 48))
    kept = {}
    for buffer in (first.buffer, None):
        world.parent = first.artifact
        run = run_of(world, f"g2-train-{buffer is None}", ALL[:3], buffer, **LEARNT)
        kept[buffer is not None] = worst_recall(trained(world, run))
    assert kept[True] > 0.9
    assert kept[False] < 0.1


def test_a_label_without_rows_in_the_parents_buffer_is_not_reported_as_missing(world):
    first = trained(world, run_of(world, "g1-train-1", ALL[:2]))
    world.data = freeze(world.home, of_label("later"))
    second = trained(world, run_of(world, "g2-train-1", ALL[:3], first.buffer))
    assert second.replay.message == ""
    # Appended one generation before its rows arrive: from then on it is expected.
    early = trained(world, run_of(world, "g3-train-1", ALL, second.buffer))
    world.data = freeze(world.home, of_label("never"))
    late = trained(world, run_of(world, "g4-train-1", ALL, early.buffer))
    assert early.replay.message == ""
    assert "1 of 4 classes have fewer than 6 (rowsPerClass): never 0" in late.replay.message


def test_new_rows_of_the_head_start_small_and_the_known_ones_where_they_were(world):
    first = trained(world, run_of(world, "g1-train-1", ALL[:2]))
    world.data = freeze(world.home, of_label("later"))
    run = run_of(world, "g2-train-1", ALL[:3], first.buffer, learningRate="1e-9", maxSteps=1)
    second = trained(world, run)
    before, after = head(first.artifact), head(second.artifact)
    assert after.shape == (3, before.shape[1])
    assert float((after[:2] - before).abs().max()) < 1e-6
    assert 0 < float(after[2].abs().max()) < 0.1


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["no", "perhaps"], "label 2 is 'yes'; in model.labels it is 'perhaps'"),
        (["yes", "no"], "label 1 is 'no'; in model.labels it is 'yes'"),
        (["later", "no", "yes"], "label 1 is 'no'; in model.labels it is 'later'"),
    ],
)
def test_a_buffer_of_another_label_space_is_refused_with_the_first_other_label(
    world, labels, found
):
    first = trained(world, run_of(world, "g1-train-1", ALL[:2]))
    with pytest.raises(Refused, match="labels may only be appended: restore their order") as wrong:
        world.train(run_of(world, "g2-train-1", labels, first.buffer))
    failure = wrong.value.failure
    assert failure.reason == "BufferMismatch"
    assert failure.field == "spec.training.retention.replay"
    assert f"has rows of 2 labels, {found}" in failure.message


def test_a_buffer_of_a_label_that_was_removed_is_refused(world):
    world.data = freeze(world.home, toy_rows(60))
    first = trained(world, run_of(world, "g1-train-1", ALL[:3]))
    with pytest.raises(Refused, match=r"has rows of 3 labels, label 3 is 'later'; .* missing"):
        world.train(run_of(world, "g2-train-1", ALL[:2], first.buffer))


def test_several_labels_in_another_order_are_refused_though_their_codes_fit(tmp_path: Path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    parent = imported(publish(tmp_path / "published"), home, model=SEVERAL)
    data = freeze(home, labelled(toy_rows(80), dressed=False))
    world = World(home, parent, data, SEVERAL)
    run = world.run_file("g1-train-1", hyperparameters=FAST, retention={"replay": {}})
    made = trained(world, run)
    turned = run.recipe.model.model_copy(update={"labels": ["coloured", "kind"]})
    other = run.recipe.model_copy(update={"model": turned})
    with pytest.raises(Refused, match=r"label 1 is 'kind'; in model\.labels it is 'coloured'"):
        replay_buffer.read(made.buffer, other, [])


def test_a_trained_head_of_the_first_labels_is_imported_and_grows_in_the_first_training(tmp_path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    source = publish(tmp_path / "published", ["yes", "no"])
    made = imported(source, home, ALL[:3])
    published = load_file(source / "model.safetensors")["classifier.weight"]
    assert made.head == "Trained"
    assert head(made).equal(published.flip(0))
    assert load(local_path(made.uri), made.digest).task.outputs == ["no", "yes"]

    world = World(home, made, freeze(home, of_label("later")))
    first = trained(world, run_of(world, "g1-train-1", ALL[:3]))
    assert load(local_path(first.artifact.uri), first.artifact.digest).task.outputs == ALL[:3]


def test_names_of_the_first_labels_without_weights_of_a_head_make_a_seeded_one_of_all(tmp_path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    source = publish(tmp_path / "published")
    config = json.loads((source / "config.json").read_text())
    config |= {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    (source / "config.json").write_text(json.dumps(config))
    made = imported(source, home, ALL)
    assert made.head == "Seeded"
    assert load(local_path(made.uri), made.digest).task.outputs == ALL
