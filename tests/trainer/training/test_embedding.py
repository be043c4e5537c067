"""A small bi-encoder: import, training of its queries, early stopping, resume, what is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from trainer.training.conftest import GOOD, PLAIN, World, freeze, publish, recipe
from trainer.training.interrupting import whole_and_resumed
from transformers import AutoModel, GPT2Config, GPT2Model

from springtide_api.contract import RunFile
from springtide_trainer.artifact.models import load, load_tokenizer
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.data.snapshots import replay_buffer
from springtide_trainer.errors import Refused
from springtide_trainer.processes import ALONE
from springtide_trainer.stages.import_model import import_model
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.metrics import retrieval
from springtide_trainer.tasks.towers import DOCUMENT_WEIGHTS, QUERY_WEIGHTS, check_pooling
from springtide_trainer.training.rows import training_rows
from springtide_trainer.training.rows.document_vectors import with_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact
    from springtide_trainer.data.snapshots.replay_buffer import Held
    from springtide_trainer.training.rows.training_rows import TrainingRows

FAST = {
    "epochs": 8,
    "learningRate": "5e-3",
    "batchSize": 16,
    "precision": "FP32",
    "freeze": {"embeddings": False},
}
SYNONYM = dict(zip(PLAIN, [*PLAIN[1:], PLAIN[0]], strict=True))
"""The word by which queries name the word of a document."""
CATALOGUE = [(one, other) for one in PLAIN for other in PLAIN if one < other]


def searches(count: int, seed: int = 0) -> dict[str, list[Any]]:
    """Queries that name the two words of their document by other words; frequent and rare ones."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {name: [] for name in ("text", "text_pair", "label", "entity")}
    share = 1 / np.arange(2, len(CATALOGUE) + 2)
    for number in range(count):
        at = int(rng.choice(len(CATALOGUE), p=share / share.sum()))
        words = [SYNONYM[word] for word in CATALOGUE[at]] + [str(rng.choice(GOOD))]
        rows["text"].append(" ".join(rng.permutation(words)))
        rows["text_pair"].append(" ".join(CATALOGUE[at]))
        rows["label"].append(f"d{at}")
        rows["entity"].append(f"shopper-{number // 3}")
    return rows


def retrieving(run: RunFile, options: dict[str, Any]) -> RunFile:
    """Return a run of task Embedding."""
    plain = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    model = plain["recipe"]["model"]
    model.pop("labels", None)
    model |= {"task": "Embedding", "embedding": options}
    plain["recipe"]["data"]["source"]["columns"] |= {"textPair": "title"}
    return RunFile.model_validate(plain)


class Retriever(World):
    """A storage with an imported bi-encoder and frozen searches."""

    options: dict[str, Any]

    def run_file(self, job: str = "g1-train-1", *, divisor: int = 1, **training: Any) -> RunFile:
        return retrieving(super().run_file(job, divisor=divisor, **training), self.options)

    def rows(self, run: RunFile, held: Held | None = None) -> TrainingRows:
        scratch = self.home.path / "tmp"
        scratch.mkdir(exist_ok=True)
        parent = local_path(self.parent.uri)
        return training_rows.load(*self.data, run.recipe, parent=parent, scratch=scratch, held=held)


def imported(source: Path, home: Home, options: dict[str, Any]) -> CommittedArtifact:
    run = {
        "stage": "import",
        "namespace": "shop",
        "update": "ranker",
        "number": 0,
        "job": "g0-import-1",
        "home": str(home.path),
        "recipe": recipe(),
        "import": {"uri": source.as_uri()},
    }
    importing = retrieving(RunFile.model_validate(run), options)
    with home.tmp(importing.job, "pod") as tmp:
        return import_model(importing, home, tmp)


@pytest.fixture
def retriever(tmp_path: Path, published: Path):
    """Return a function that makes a retriever with these rows and options."""

    def of(rows: dict[str, list[Any]] | None = None, **options: Any) -> Retriever:
        home = Home(tmp_path / "models" / "shop" / "ranker")
        parent = imported(published, home, options)
        made = Retriever(home, parent, freeze(home, rows or searches(240)))
        made.options = options
        return made

    return of


def found_first(made: CommittedArtifact, depth: int = 1) -> float:
    """Return recall on other searches of the same documents."""
    scorer, rows = load(local_path(made.uri), made.digest), searches(200, seed=9)
    queries = scorer.predict(scorer.preprocess.render(rows))
    texts = [" ".join(words) for words in CATALOGUE]
    vectors = scorer.predict_documents(scorer.preprocess.render_documents(texts))
    own = np.array([int(label[1:]) for label in rows["label"]])
    return float((retrieval.ranks(queries, vectors, own)[:, 0] <= depth).mean())


def files(made: CommittedArtifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in local_path(made.uri).iterdir()}


def test_queries_learn_to_find_documents_whose_model_stays_as_it_was(retriever):
    world = retriever()
    made = world.train(world.run_file(hyperparameters=FAST))
    assert found_first(world.parent) < 0.2
    assert found_first(made.artifact) > 0.8
    before, after = files(world.parent), files(made.artifact)
    assert before.keys() == after.keys()
    assert before[QUERY_WEIGHTS] == before[DOCUMENT_WEIGHTS] == after[DOCUMENT_WEIGHTS]
    assert after[QUERY_WEIGHTS] != before[QUERY_WEIGHTS]
    assert json.loads(after["preprocess.json"])["embedding"]["vectors"]["dimensions"] == 32


def test_one_model_learns_to_make_the_vectors_of_queries_and_documents(retriever):
    world = retriever(trainTower="Both")
    made = world.train(world.run_file(hyperparameters=FAST))
    assert found_first(made.artifact) > 0.6
    after = files(made.artifact)
    assert after[QUERY_WEIGHTS] == after[DOCUMENT_WEIGHTS] != files(world.parent)[DOCUMENT_WEIGHTS]


def test_both_cannot_be_trained_after_the_queries_alone(retriever):
    world = retriever()
    made = world.train(world.run_file(hyperparameters=FAST | {"epochs": 1}))
    world.parent, world.options = made.artifact, {"trainTower": "Both"}
    with pytest.raises(Refused, match="has a model of queries and another of documents"):
        world.train(world.run_file("both"))


def test_both_have_no_adversarial_steps(retriever):
    world = retriever(trainTower="Both")
    with pytest.raises(
        Refused, match=r"trainTower Both is not trained with .*\(spec\.training\.robustness"
    ):
        world.train(world.run_file(robustness={"adversarial": {}}))


def test_the_model_is_not_sharded(retriever):
    world = retriever()
    with pytest.raises(Refused, match=r"not trained with parallelism\.type FSDP"):
        world.train(world.run_file(parallelism={"type": "FSDP"}))


def test_plain_transformers_makes_the_vectors_of_both_models(retriever):
    world = retriever()
    made = world.train(world.run_file(hyperparameters=FAST | {"epochs": 1}))
    folder = local_path(made.artifact.uri)
    scorer = load(folder, made.artifact.digest)
    pairs = [("red lamp good", None), ("the shoe", None)]
    tokens = tokenize(scorer.tokenizer, pairs, 16).batch([0, 1])
    for variant, found in ((None, scorer.predict), ("document", scorer.predict_documents)):
        model = AutoModel.from_pretrained(folder, variant=variant).eval()
        with torch.no_grad():
            states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
        expected = torch.nn.functional.normalize(mean, dim=1).numpy()
        np.testing.assert_allclose(found(pairs), expected, atol=1e-5)


@pytest.mark.parametrize("tower", ["Query", "Both"])
def test_smaller_passes_have_the_negatives_of_the_whole_step(retriever, tower):
    """Rule 1: a step is the same however it is cut, and so are its negatives."""
    world = retriever(trainTower=tower)
    short = FAST | {"epochs": 2}
    made = [
        world.train(world.run_file(f"by-{divisor}", divisor=divisor, hyperparameters=short))
        for divisor in (1, 8)
    ]
    text = searches(40, seed=7)
    whole, parts = (
        load(local_path(each.artifact.uri), each.artifact.digest).predict(
            [(query, None) for query in text["text"]]
        )
        for each in made
    )
    np.testing.assert_allclose(whole, parts, rtol=0, atol=0.02)
    assert made[0].metrics["loss"] == pytest.approx(made[1].metrics["loss"], rel=1e-3)


def test_the_candidates_of_a_step_are_its_documents_once_without_those_of_the_same_query(retriever):
    rows = searches(6)
    rows["text"] = ["red", "red", "lamp", "blue", "dress", "red"]
    rows["label"] = ["d0", "d1", "d0", "d2", "d3", "d4"]
    world = retriever(rows, logQ=False)
    parent = local_path(world.parent.uri)
    ready = with_vectors(
        world.rows(world.run_file()),
        load(parent, world.parent.digest).task,
        parent,
        step_rows=4,
        batch_size=4,
        device=torch.device("cpu"),
        processes=ALONE,
    )
    found = ready.examples.documents.candidates(np.array([0, 1, 2, 3]), np.array([0, 2]))
    # The documents d0, d1 and d2. Row 0 asks "red", for which d1 is relevant, too.
    assert found.vectors.shape == (3, 32)
    assert found.excluded.sum(dim=1).tolist() == [1, 0]
    assert found.own[0] == found.own[1], "rows of one document share their candidate"
    assert not found.excluded[torch.arange(2), found.own].any()
    assert found.log_q.tolist() == [0, 0, 0]


@pytest.mark.parametrize("tower", ["Query", "Both"])
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(
    retriever, monkeypatch, tower
):
    options = {
        "hyperparameters": FAST | {"dropout": "0.1", "epochs": 2},
        "earlyStopping": {"everySteps": 5, "patience": 50},
        "checkpoint": {"everySteps": 3},
    }
    world = retriever(trainTower=tower)
    undisturbed, resumed = whole_and_resumed(world, options, monkeypatch)
    assert resumed.artifact.digest == undisturbed.artifact.digest


@pytest.mark.parametrize(("metric", "tower"), [("mrr", "Query"), ("recall@10", "Both")])
def test_early_stopping_goes_by_the_ranks_of_documents(retriever, metric, tower):
    world = retriever(trainTower=tower)
    stopping = {"metric": metric, "everySteps": 8, "patience": 9, "validationFraction": "0.3"}
    made = world.train(world.run_file(hyperparameters=FAST, earlyStopping=stopping))
    assert made.metrics["best_step"] > 0
    assert 0.5 < made.metrics["validation"] <= 1


def test_a_replayed_row_has_the_newest_text_of_its_document(retriever):
    world = retriever()
    training = {
        "hyperparameters": FAST | {"epochs": 1},
        "retention": {"replay": {"ratio": "0.5", "rowsPerClass": 0, "bufferRows": 200}},
    }
    first = world.train(world.run_file("g1-train-1", **training))
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    newer = searches(60, seed=4)
    newer["text_pair"] = [f"{text} very" for text in newer["text_pair"]]
    world.data = freeze(world.home, newer)
    plain = world.run_file("g2-train-1", **training).model_dump(mode="json", by_alias=True)
    plain["train"]["buffer"] = first.buffer.plain()
    run = RunFile.model_validate(plain)

    held = replay_buffer.read(run.train.buffer, run.recipe, ())
    found = world.rows(run, held)
    words, tokens = load_tokenizer(local_path(world.parent.uri)), found.documents.tokens
    texts = [
        words.decode(tokens.values["input_ids"][begin:end], skip_special_tokens=True)
        for begin, end in zip(tokens.starts, tokens.starts[1:], strict=False)
    ]
    known = dict(zip(newer["label"], newer["text_pair"], strict=True))
    names = [
        *newer["label"],
        *training_rows.draw(
            held,
            run.recipe,
            replay=run.recipe.training.retention.replay,
            new_rows=60,
            salt=world.data[1],
        )
        .table["label"]
        .to_pylist(),
    ]
    assert len(names) == len(found.documents.of_row) == 60 + found.replayed.rows
    older = set()
    for name, at in zip(names, found.documents.of_row, strict=True):
        expected = known.get(name, " ".join(CATALOGUE[int(name[1:])]))
        assert texts[at] == expected
        older |= {name} - known.keys()
    assert older, "some documents are only replayed"
    assert world.train(run).replay.rows == found.replayed.rows


@pytest.mark.parametrize(
    ("hyperparameters", "training"),
    [
        (
            {"learningRate": "2e-2", "freeze": {}},
            {"method": {"type": "LoRA", "lora": {"rank": 8}}},
        ),
        ({}, {"robustness": {"adversarial": {}, "averaging": {"ema": "0.9"}}}),
        ({}, {"robustness": {"augmentation": {"tokenDropout": "0.1", "wordSwap": "0.1"}}}),
        ({"learningRate": "1e-2", "freeze": {"lowerLayers": 1}}, {}),
    ],
    ids=["LoRA", "adversarial and ema", "augmentation", "frozen lower layers"],
)
def test_queries_are_trained_by_the_options_of_every_task(retriever, hyperparameters, training):
    world = retriever()
    made = world.train(world.run_file(hyperparameters=FAST | hyperparameters, **training))
    assert found_first(made.artifact, 5) > found_first(world.parent, 5) + 0.2
    assert files(made.artifact)[DOCUMENT_WEIGHTS] == files(world.parent)[DOCUMENT_WEIGHTS]


def test_prefixes_are_read_before_queries_and_documents(retriever):
    vectors = {"queryPrefix": "good ", "documentPrefix": "red "}
    world, plain = retriever(vectors=vectors), retriever()
    with_, without = (
        load(local_path(each.parent.uri), each.parent.digest) for each in (world, plain)
    )
    rows = {"text": ["lamp"]}
    assert with_.preprocess.render(rows) == [("good lamp", None)]
    found = with_.predict_documents(with_.preprocess.render_documents(["lamp"]))
    expected = without.predict_documents(without.preprocess.render_documents(["red lamp"]))
    assert found.tolist() == expected.tolist()


def test_an_encoder_with_a_head_is_imported_without_it(tmp_path, retriever):
    head = publish(tmp_path / "classifier", ["no", "yes"])
    made = imported(head, Home(tmp_path / "with-head"), {})
    assert made.head == "Trained"
    scorer = load(local_path(made.uri), made.digest)
    assert scorer.predict([("red lamp", None)]).shape == (1, 32)


def test_vectors_of_another_length_are_refused(tmp_path, published):
    with pytest.raises(Refused, match="makes vectors of 32 numbers, and dimensions is 384"):
        imported(published, Home(tmp_path / "home"), {"vectors": {"dimensions": 384}})


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "First"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "another kind"),
        ({"pooling_mode": "cls"}, "First"),
        ({"pooling_mode": "lasttoken"}, "another kind"),
        ({"pooling_mode": ["cls", "mean"]}, "another kind"),
    ],
)
def test_a_pooling_that_the_model_was_not_trained_with_is_refused(tmp_path, known, words):
    """In the words of older versions of sentence-transformers, and of 6.2."""
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(known))
    with pytest.raises(Refused, match=f"made by {words}, and pooling is Mean") as caught:
        check_pooling(tmp_path, "Mean")
    assert caught.value.failure.reason == "PoolingMismatch"
    if words == "First":
        check_pooling(tmp_path, "First")


def test_an_encoder_is_imported_with_the_pooling_that_it_was_trained_with(tmp_path, published):
    (published / "1_Pooling").mkdir()
    (published / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    with pytest.raises(Refused, match="made by First, and pooling is Mean"):
        imported(published, Home(tmp_path / "home"), {})
    assert imported(published, Home(tmp_path / "home"), {"vectors": {"pooling": "First"}})


def test_a_decoder_is_refused(tmp_path, published):
    config = GPT2Config(vocab_size=32, n_embd=32, n_layer=1, n_head=2, n_positions=32)
    GPT2Model(config).save_pretrained(published)
    with pytest.raises(Refused, match="model_type 'gpt2' is no encoder"):
        imported(published, Home(tmp_path / "home"), {})


def test_an_encoder_without_some_of_its_weights_is_refused(tmp_path, published):
    from safetensors.torch import load_file, save_file

    weights = load_file(published / QUERY_WEIGHTS)
    lost = next(name for name in weights if "layer.1.attention" in name)
    del weights[lost]
    save_file(weights, published / QUERY_WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(Refused, match=f"1 weights of the encoder are missing, such as {lost}"):
        imported(published, Home(tmp_path / "home"), {})


def test_two_imports_of_one_folder_have_the_same_digest(tmp_path, published):
    """A pooler that the folder lacks is initialized by chance, and left out."""
    first, second = (imported(published, Home(tmp_path / name), {}) for name in ("a", "b"))
    assert first.digest == second.digest
