"""A small encoder: import, training on hidden tokens, resume, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from trainer import decoders
from trainer.training.conftest import World, freeze, imported, publish, tokenizer
from trainer.training.interrupting import whole_and_resumed
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    T5Config,
)

from springtide_api.contract import RunFile
from springtide_trainer.artifact.models import load
from springtide_trainer.data.snapshots import replay_buffer
from springtide_trainer.errors import Refused
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.language.masked_tokens import CHOSEN, ORIGINAL
from springtide_trainer.training import fit, lower_outputs
from springtide_trainer.training.rows import training_rows

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact

MODEL = {"task": "MaskedLM"}
FAST = {
    "epochs": 6,
    "learningRate": "5e-3",
    "batchSize": 16,
    "precision": "FP32",
    "freeze": {"embeddings": False},
}
PHRASES = [
    ["red", "lamp", "for", "a", "dress"],
    ["blue", "shoe", "and"],
    ["great", "poor", "fine", "broken"],
    ["the", "very", "awful"],
    ["lovely", "bad"],
]


def texts(count: int, seed: int = 0) -> dict[str, list[Any]]:
    """One phrase or a few: the words of a phrase that are shown say which one is hidden."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"text": [], "label": [], "entity": []}
    for number in range(count):
        chosen = rng.integers(0, len(PHRASES), max(1, int(rng.integers(-2, 4))))
        rows["text"].append(" ".join(word for one in chosen for word in PHRASES[one]))
        rows["label"].append("")
        rows["entity"].append(f"shopper-{number // 3}")
    return rows


def publish_head(folder: Path) -> Path:
    """Write an encoder with the head of a masked language model."""
    publish(folder)
    torch.manual_seed(3)
    config = BertConfig.from_pretrained(folder, initializer_range=0.1)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def shop(tmp_path: Path):
    """Return a function that makes a world with an imported encoder and frozen texts."""

    def of(rows: dict[str, list[Any]] | None = None, *, head: bool = True) -> World:
        home = Home(tmp_path / "models" / "shop" / "ranker")
        source = (publish_head if head else publish)(tmp_path / "encoder")
        made = imported(source, home, model=MODEL)
        return World(home, made, freeze(home, rows or texts(160)), MODEL)

    return of


def scores(made: CommittedArtifact) -> np.ndarray:
    """Return negative log likelihood and accuracy of the hidden tokens of other texts."""
    scorer = load(local_path(made.uri), made.digest)
    return scorer.predict(scorer.preprocess.render(texts(60, seed=9)))


def test_an_encoder_learns_the_words_and_plain_transformers_loads_it(shop):
    world = shop()
    assert world.parent.head == "Trained"
    made = world.train(world.run_file(hyperparameters=FAST | {"epochs": 24})).artifact
    before, after = scores(world.parent), scores(made)
    assert after[:, 0].mean() < before[:, 0].mean() - 1
    assert after[:, 1].mean() > before[:, 1].mean() + 0.3

    folder = local_path(made.uri)
    plain, words = AutoModelForMaskedLM.from_pretrained(folder).eval(), tokenizer()
    found = words(f"blue {words.mask_token} and", return_tensors="pt")
    with torch.no_grad():
        best = plain(**found).logits[0, 2].argmax()
    assert words.convert_ids_to_tokens(int(best)) == "shoe"
    preprocess = json.loads((folder / "preprocess.json").read_text())
    assert preprocess["task"] == "MaskedLM"
    tied = plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
    assert tied


def test_an_encoder_without_the_head_gets_a_new_one_and_keeps_its_own_weights(shop, tmp_path):
    world = shop(head=False)
    assert world.parent.head == "Seeded"
    own = BertModel.from_pretrained(tmp_path / "encoder")
    found = AutoModelForMaskedLM.from_pretrained(local_path(world.parent.uri))
    kept = dict(found.bert.named_parameters())
    assert {name for name, _ in own.named_parameters()} - kept.keys() == {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }
    for name, weight in kept.items():
        assert torch.equal(weight, own.get_parameter(name)), name
    again = imported(tmp_path / "encoder", Home(tmp_path / "other"), model=MODEL)
    assert again.digest == world.parent.digest, "a new head is a function of the seed"


def test_each_hidden_token_of_a_step_counts_the_same_in_its_loss(shop, monkeypatch):
    world, losses = shop(), []
    original = fit.loop.train

    def recording(*given, **options):
        observers = [*options.pop("observers"), lambda step, loss: losses.append(loss)]
        return original(*given, observers=observers, **options)

    monkeypatch.setattr(fit.loop, "train", recording)
    step = {"maxSteps": 1, "batchSize": 160, "warmup": "0"}
    run = world.run_file(hyperparameters={k: v for k, v in FAST.items() if k != "epochs"} | step)
    prepared = []
    monkeypatch.setattr(fit, "_steps", recorded_steps(fit._steps, prepared))
    world.train(run)

    (batches,) = prepared
    assert len(batches) == 1
    inputs = batches[0].inputs
    plain = AutoModelForMaskedLM.from_pretrained(local_path(world.parent.uri)).eval()
    labels = torch.where(inputs[CHOSEN] == 1, inputs[ORIGINAL], -100)
    known = {name: value for name, value in inputs.items() if name not in {CHOSEN, ORIGINAL}}
    with torch.no_grad():
        expected = plain(**known, labels=labels).loss
    assert losses == [pytest.approx(float(expected), rel=1e-4)]


def recorded_steps(original: Any, into: list[Any]) -> Any:
    def steps(session, first):
        for step in original(session, first):
            into.append(step.batches)
            yield step

    return steps


def test_smaller_passes_give_the_result_of_the_whole_step(shop):
    """Rule 1: which tokens are hidden does not depend on how a step is cut."""
    world, short = shop(), FAST | {"epochs": 2}
    made = [
        world.train(world.run_file(f"by-{divisor}", divisor=divisor, hyperparameters=short))
        for divisor in (1, 8)
    ]
    whole, parts = (scores(each.artifact) for each in made)
    np.testing.assert_allclose(whole[:, 0], parts[:, 0], rtol=0, atol=0.01)
    assert np.abs(whole[:, 0] - scores(world.parent)[:, 0]).max() > 0.1
    assert made[0].metrics["loss"] == pytest.approx(made[1].metrics["loss"], rel=1e-3)


def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(shop, monkeypatch):
    options = {
        "hyperparameters": FAST | {"dropout": "0.1", "epochs": 2},
        "earlyStopping": {"everySteps": 5, "patience": 50},
        "robustness": {"averaging": {"ema": "0.9"}},
        "checkpoint": {"everySteps": 3},
    }
    world = shop()
    undisturbed, resumed = whole_and_resumed(world, options, monkeypatch)
    assert resumed.artifact.digest == undisturbed.artifact.digest
    assert 1 < resumed.metrics["validation"] < len(tokenizer())


def test_each_epoch_hides_other_tokens_of_a_row_also_below_frozen_layers(shop, monkeypatch):
    """Outputs of frozen layers are those of other tokens in each epoch: none are stored."""
    world, seen = shop(texts(16)), []
    monkeypatch.setattr(fit, "_steps", recorded_steps(fit._steps, seen))
    monkeypatch.setattr(lower_outputs, "_stored", lambda *_: pytest.fail("outputs are stored"))
    options = FAST | {"epochs": 4, "freeze": {"lowerLayers": 1}}
    world.train(world.run_file(hyperparameters=options))
    hidden = {}
    for (batch,) in seen:
        for original, chosen in zip(batch.inputs[ORIGINAL], batch.inputs[CHOSEN], strict=True):
            hidden.setdefault(tuple(original.tolist()), []).append(tuple(chosen.tolist()))
    long = [masks for text, masks in hidden.items() if np.count_nonzero(text) > 8]
    assert long
    assert all(len(set(masks)) > 1 for masks in long)


def test_methods_and_robustness_are_those_of_every_task(shop):
    world = shop()
    heads = [AutoModelForMaskedLM.from_pretrained(local_path(world.parent.uri)).cls.state_dict()]
    lora = {"method": {"type": "LoRA", "lora": {"rank": 8}}}
    slow = FAST | {"learningRate": "2e-2", "freeze": {}}
    made = world.train(
        world.run_file(
            "lora", hyperparameters=slow, robustness={"adversarial": {"epsilon": "0.1"}}, **lora
        )
    )
    assert scores(made.artifact)[:, 0].mean() < scores(world.parent)[:, 0].mean() - 0.1
    heads.append(
        AutoModelForMaskedLM.from_pretrained(local_path(made.artifact.uri)).cls.state_dict()
    )
    weights = "predictions.decoder.weight"
    assert torch.equal(heads[0][weights], heads[1][weights]), "LoRA leaves the last layer as it is"


def test_replayed_rows_have_hidden_tokens_too(shop):
    world = shop()
    training = {
        "hyperparameters": FAST | {"epochs": 1},
        "retention": {"replay": {"ratio": "0.5", "rowsPerClass": 0, "bufferRows": 100}},
    }
    first = world.train(world.run_file("g1-train-1", **training))
    world.data = freeze(world.home, texts(60, seed=4))
    plain = world.run_file("g2-train-1", **training).model_dump(mode="json", by_alias=True)
    plain["train"]["buffer"] = first.buffer.plain()
    run = RunFile.model_validate(plain)
    held = replay_buffer.read(run.train.buffer, run.recipe, ())
    (scratch := world.home.path / "tmp").mkdir(exist_ok=True)
    parent = local_path(world.parent.uri)
    found = training_rows.load(*world.data, run.recipe, parent=parent, scratch=scratch, held=held)
    assert len(found.examples.terms) == 60 + found.replayed.rows
    assert found.replayed.rows > 10
    batch = found.examples.tokens.batch(np.arange(len(found.examples.terms)))
    assert batch[CHOSEN].sum(dim=1).tolist() == found.examples.terms.tolist()
    assert found.examples.labels[:, 0].tolist() == found.examples.terms.tolist()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"parallelism": {"type": "FSDP"}}, r"not trained with parallelism\.type FSDP"),
        (
            {"robustness": {"augmentation": {"wordSwap": "0.1"}}},
            r"not trained with robustness\.augmentation",
        ),
        ({"retention": {"distillation": {}}}, r"not trained with retention\.distillation"),
        ({"retention": {"ewc": {"strength": "100"}}}, r"not trained with retention\.ewc"),
    ],
)
def test_what_the_task_is_not_trained_with_is_refused(shop, training, message):
    world = shop(texts(8))
    with pytest.raises(Refused, match=message):
        world.train(world.run_file(**training))


@pytest.mark.parametrize("kind", ["decoder", "encoder and decoder"])
def test_a_model_with_a_decoder_is_refused(tmp_path, kind):
    source = decoders.publish(tmp_path / "model")
    if kind != "decoder":
        T5Config().save_pretrained(source)
    with pytest.raises(Refused, match="has no head that predicts hidden tokens"):
        imported(source, Home(tmp_path / "home"), model=MODEL)


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path):
    source = publish_head(tmp_path / "bert")
    path = source / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mask_token": None}))
    with pytest.raises(Refused, match=r"has no mask token \(mask_token\)"):
        imported(source, Home(tmp_path / "home"), model=MODEL)
