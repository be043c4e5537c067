"""The warm-up queries that an evaluation leaves: rows of its holdout, beside the model."""

import json

import numpy as np
import pyarrow as pa
import pytest

from springtide_api.contract import ArtifactRef
from springtide_api.update.task import ClassificationOptions, RankingOptions
from springtide_api.warm_up import MAX_BYTES, WarmUpQueries
from springtide_trainer.artifact.manifest import verify
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots.frozen_rows import read_rows
from springtide_trainer.evaluation.datasets import EvaluationDataset
from springtide_trainer.evaluation.warm_up import MAX_CHARACTERS, content, sample, write
from springtide_trainer.storage import local_path, warm_up_file

TEXT = Preprocess(text="query", max_length=32, labels=["no", "yes"])
TASKS = {
    "Classification": TEXT,
    "features": Preprocess(features=["title", "price"], max_length=32, labels=["no", "yes"]),
    "multi-label": Preprocess(
        text="query",
        max_length=32,
        labels=["a", "b"],
        classification=ClassificationOptions(multi_label=True),
    ),
    "Regression": Preprocess(text="query", max_length=32, task="Regression"),
    "Ranking": Preprocess(
        text="query",
        text_pair="item",
        max_length=32,
        task="Ranking",
        ranking=RankingOptions(gains={"no": "0", "yes": "1"}),
    ),
}


def rows(model: Preprocess, count: int = 600) -> pa.Table:
    """Frozen rows of 1 to 60 words with a label, an entity and lists of 3."""
    inputs = {
        f"feature:{name}" if model.features else name: [
            f"{name}{at} " + "word " * (at % 60) for at in range(count)
        ]
        for name in model.inputs
    }
    kept = {"label": ["secret-label"] * count, "entity": ["secret-entity"] * count}
    return pa.table({**inputs, **kept, "group": [f"list{at // 3}" for at in range(count)]})


def written(tmp_path, model: Preprocess, table: pa.Table, recipe=None, digit="a"):
    """Write the queries of a model; returns the parsed file, or None."""
    folder = tmp_path / "artifacts" / f"sha256-{digit * 64}"
    folder.mkdir(parents=True, exist_ok=True)
    model.write(folder)
    (tmp_path / "tmp").mkdir(exist_ok=True)
    dataset = EvaluationDataset("holdout", "Holdout", f"sha256:{'b' * 64}", table)
    reference = ArtifactRef(uri=folder.as_uri(), digest=f"sha256:{digit * 64}")
    write([dataset], reference, recipe, tmp_path / "tmp")
    file = warm_up_file(folder)
    return WarmUpQueries.model_validate_json(file.read_bytes()) if file.exists() else None


@pytest.fixture
def recipe(shop):
    """Recipes by `serving`."""
    return lambda serving=None: shop.run(shop.knowing, None, serving=serving).recipe


def test_an_evaluation_leaves_queries_of_its_holdout_beside_the_model(shop):
    shop.evaluate(shop.knowing, shop.other, job="warm")

    folder = local_path(shop.knowing.uri)
    found = WarmUpQueries.model_validate_json(warm_up_file(folder).read_bytes())
    verify(folder, shop.knowing.digest)
    assert found.digest == shop.knowing.digest
    frozen = read_rows(local_path(shop.window.manifest), "holdout")
    known = set(zip(frozen["text"].to_pylist(), frozen["text_pair"].to_pylist(), strict=True))
    asked = [[tensor["data"] for tensor in query["inputs"]] for query in found.requests]
    assert [len(text) for text, _ in asked] == [1] * 32 + [32]
    assert {pair for text, item in asked for pair in zip(text, item, strict=True)} <= known
    assert not warm_up_file(local_path(shop.other.uri)).exists()


@pytest.mark.parametrize("task", TASKS)
def test_queries_of_every_task_have_the_inputs_and_nothing_else(tmp_path, recipe, task):
    model = TASKS[task]
    table = rows(model)
    found = written(tmp_path, model, table, recipe())

    for query in found.requests:
        assert query.keys() == {"inputs"}
        assert [tensor["name"] for tensor in query["inputs"]] == model.inputs
        for tensor in query["inputs"]:
            assert tensor["datatype"] == "BYTES"
            assert tensor["shape"] == [len(tensor["data"])]
    assert "secret" not in found.model_dump_json()
    sizes = [query["inputs"][0]["shape"][0] for query in found.requests]
    assert sizes == ([3] * 32 if task == "Ranking" else [1] * 32 + [32])


def test_a_list_of_a_ranker_is_asked_as_a_whole(tmp_path, recipe):
    model = TASKS["Ranking"]
    found = written(tmp_path, model, rows(model), recipe())

    for query in found.requests:
        numbers = [
            int(text.split()[0].removeprefix("text_pair")) for text in query["inputs"][1]["data"]
        ]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        assert numbers[0] % 3 == 0


def test_the_sample_covers_the_lengths_in_a_mixed_order():
    size = np.arange(1000)
    chosen = [int(rows[0]) for rows in sample(size, None, count=10, seed=3)]

    assert sorted(at // 100 for at in chosen) == list(range(10))
    assert chosen not in (sorted(chosen), sorted(chosen, reverse=True))


def test_each_generation_has_its_own_sample_and_the_same_one_again(tmp_path, recipe):
    table = rows(TEXT)
    first, second, again = (
        written(tmp_path, TEXT, table, recipe(), digit) for digit in "abA".lower()
    )

    assert first.requests == again.requests
    assert first.requests != second.requests


def test_fewer_rows_than_queries_are_all_asked(tmp_path, recipe):
    found = written(tmp_path, TEXT, rows(TEXT, 2), recipe())
    alone = written(tmp_path, TEXT, rows(TEXT, 1), recipe())

    assert [query["inputs"][0]["shape"] for query in found.requests] == [[1], [1], [2]]
    assert [query["inputs"][0]["shape"] for query in alone.requests] == [[1]]


def test_their_number_is_a_field_and_0_deletes_those_of_an_earlier_evaluation(tmp_path, recipe):
    few = written(tmp_path, TEXT, rows(TEXT), recipe({"warmUp": {"queries": 3}}))
    none = written(tmp_path, TEXT, rows(TEXT), recipe({"warmUp": {"queries": 0}}))

    assert len(few.requests) == 4
    assert none is None
    assert written(tmp_path, TEXT, rows(TEXT), recipe({"warmUp": {"queries": 0}})) is None


def test_a_later_evaluation_replaces_the_queries(tmp_path, recipe):
    written(tmp_path, TEXT, rows(TEXT), recipe())
    found = written(tmp_path, TEXT, pa.table({"text": ["later"]}), recipe())

    assert found.requests[0]["inputs"][0]["data"] == ["later"]


def test_long_texts_are_cut_and_the_file_has_a_limit(tmp_path, recipe):
    table = pa.table({"text": ["\u0001" * 10 * MAX_CHARACTERS] * 256})
    found = written(tmp_path, TEXT, table, recipe({"warmUp": {"queries": 256}}))

    file = warm_up_file(tmp_path / "artifacts" / f"sha256-{'a' * 64}")
    assert MAX_BYTES / 2 < file.stat().st_size <= MAX_BYTES
    assert {len(text) for query in found.requests for text in query["inputs"][0]["data"]} == {
        MAX_CHARACTERS
    }


def test_the_longest_queries_are_left_out_first():
    short = {"inputs": ["short"]}
    kept = json.loads(content("sha256:", [short, {"inputs": ["x" * MAX_BYTES]}, short]))

    assert kept["requests"] == [short, short]


@pytest.mark.survives(
    "Model",
    "the warm-up queries of a model cannot be written",
    "logged; the evaluation has the same result",
)
def test_queries_that_cannot_be_written_do_not_fail_an_evaluation(shop, caplog):
    model = shop.model(9)
    warm_up_file(local_path(model.uri)).mkdir()

    out = shop.evaluate(model, shop.other, job="unwritable")

    assert out.rules == shop.evaluate(model, shop.other, job="again").rules
    assert [each.message for each in caplog.records if each.name.endswith("warm_up")] == [
        "no warm-up queries"
    ] * 2
