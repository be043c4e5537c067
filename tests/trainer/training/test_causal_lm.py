"""A small decoder: import, training on responses, early stopping, resume, what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from trainer import decoders
from trainer.training.conftest import PLAIN, World, freeze, imported, publish
from trainer.training.interrupting import whole_and_resumed
from transformers import AutoModelForCausalLM, LlamaModel

from springtide_api.contract import RunFile
from springtide_trainer.artifact.models import load
from springtide_trainer.data.snapshots import replay_buffer
from springtide_trainer.errors import Refused
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.language.response_tokens import MASK
from springtide_trainer.training import fit
from springtide_trainer.training.rows import training_rows

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact

MODEL = {"task": "CausalLM", "causalLm": {"maxNewTokens": 6}}
FAST = {
    "epochs": 10,
    "learningRate": "5e-3",
    "batchSize": 16,
    "precision": "FP32",
    "freeze": {"embeddings": False},
}
LAST = ("lamp", "the", "for")
"""Words with which a response ends; no question does."""


def answer(asked: str) -> str:
    """Return the words after a word of `PLAIN`, up to one of `LAST`: one to three."""
    following = PLAIN[PLAIN.index(asked) + 1 :]
    return " ".join(
        following[: 1 + min(following.index(word) for word in LAST if word in following)]
    )


def dialogues(count: int, seed: int = 0) -> dict[str, list[Any]]:
    """Prompts of a few words, of which the last is a question that the response answers."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"text": [], "label": [], "entity": []}
    for number in range(count):
        asked = str(rng.choice([word for word in PLAIN if word not in LAST]))
        rows["text"].append(" ".join([*["good"] * int(rng.integers(0, 4)), "help", asked]))
        rows["label"].append(answer(asked))
        rows["entity"].append(f"shopper-{number // 3}")
    return rows


WORDS = [*PLAIN, "good", "help"]


@pytest.fixture
def support(tmp_path: Path):
    """Return a function that makes a world with an imported decoder and frozen dialogues."""

    def of(rows: dict[str, list[Any]] | None = None, *, llama: bool = False) -> World:
        home = Home(tmp_path / "models" / "shop" / "ranker")
        source = decoders.publish(tmp_path / "decoder", WORDS, llama=llama)
        made = imported(source, home, model=MODEL)
        return World(home, made, freeze(home, rows or dialogues(240)), MODEL)

    return of


def likelihood(made: CommittedArtifact, rows: dict[str, list[Any]] | None = None) -> np.ndarray:
    """Return the mean negative log likelihood of each response of other dialogues."""
    scorer, rows = load(local_path(made.uri), made.digest), rows or dialogues(60, seed=9)
    return scorer.predict(scorer.preprocess.render(rows, rows["label"]))[:, 0]


@pytest.mark.parametrize("llama", [False, True], ids=["gpt2", "llama"])
def test_a_decoder_learns_to_respond_and_plain_transformers_loads_it(support, llama):
    world = support(llama=llama)
    made = world.train(world.run_file(hyperparameters=FAST))
    before, after = likelihood(world.parent), likelihood(made.artifact)
    assert before.mean() > 2
    assert after.mean() < 0.5

    folder = local_path(made.artifact.uri)
    scorer = load(folder, made.artifact.digest)
    rows = dialogues(20, seed=5)
    found = scorer.respond([*rows["text"]], scorer.limits)
    right = np.mean([one == other for one, other in zip(found, rows["label"], strict=True)])
    assert right > 0.8

    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    words = decoders.tokenizer(WORDS, first=llama)
    for prompt, response in zip(rows["text"], rows["label"], strict=True):
        begin = words(prompt)["input_ids"]
        end = [*words(response, add_special_tokens=False)["input_ids"], words.eos_token_id]
        ids = torch.tensor([[*begin, *end]])
        with torch.no_grad():
            expected = plain(ids, labels=torch.tensor([[*[-100] * len(begin), *end]])).loss
        (own,) = scorer.predict([(prompt, response)])
        assert own[0] == pytest.approx(float(expected), rel=1e-4)


def test_the_tokens_of_prompts_are_not_learnt(support):
    """A prompt that no response follows from: its words are as unlikely as before."""
    rows = dialogues(240)
    rows["text"] = ["good good good" for _ in rows["text"]]
    world = support(rows)
    made = world.train(world.run_file(hyperparameters=FAST | {"epochs": 4}))
    prompts = {"text": [""] * 4, "label": ["good good good"] * 4}
    assert likelihood(made.artifact, prompts).mean() > likelihood(world.parent, prompts).mean()


def test_each_token_of_a_step_counts_the_same_in_its_loss(support, monkeypatch):
    """Not each row: the loss of a step is that of all its responses, however long each is."""
    world = support()
    losses = []
    original = fit.loop.train

    def recording(*given, **options):
        observers = [*options.pop("observers"), lambda step, loss: losses.append(loss)]
        return original(*given, observers=observers, **options)

    monkeypatch.setattr(fit.loop, "train", recording)
    short = FAST | {"epochs": None, "maxSteps": 1, "batchSize": 240, "warmup": "0"}
    world.train(world.run_file(hyperparameters={k: v for k, v in short.items() if v is not None}))
    rows = dialogues(240)
    tokens = np.array([len(label.split()) + 1 for label in rows["label"]])
    mean = likelihood(world.parent, rows)
    assert losses == [pytest.approx((mean * tokens).sum() / tokens.sum(), rel=1e-4)]
    assert losses[0] != pytest.approx(mean.mean(), rel=1e-4)


def test_smaller_passes_give_the_result_of_the_whole_step(support):
    """Rule 1: a step is the same however it is cut."""
    world = support()
    short = FAST | {"epochs": 2}
    made = [
        world.train(world.run_file(f"by-{divisor}", divisor=divisor, hyperparameters=short))
        for divisor in (1, 8)
    ]
    whole, parts = (likelihood(each.artifact) for each in made)
    np.testing.assert_allclose(whole, parts, rtol=0, atol=0.01)
    assert made[0].metrics["loss"] == pytest.approx(made[1].metrics["loss"], rel=1e-3)


def test_a_row_of_weight_2_counts_as_two_rows(support):
    rows = dialogues(16)
    twice = {name: [*values, *values[:4]] for name, values in rows.items()}
    rows["weight"] = [2.0] * 4 + [1.0] * 12
    twice["weight"] = [1.0] * 20
    options = FAST | {"epochs": 1, "batchSize": 32, "optimizer": "SGD", "warmup": "0"}
    world = support(rows)
    made = [world.train(world.run_file("weights", hyperparameters=options))]
    world.data = freeze(world.home, twice)
    made.append(world.train(world.run_file("rows", hyperparameters=options)))
    one, other = (likelihood(each.artifact) for each in made)
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.abs(one - likelihood(world.parent)).max() > 1e-4


def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(support, monkeypatch):
    options = {
        "hyperparameters": FAST | {"dropout": "0.1", "epochs": 2},
        "earlyStopping": {"everySteps": 5, "patience": 50},
        "robustness": {"averaging": {"ema": "0.9"}},
        "checkpoint": {"everySteps": 3},
    }
    world = support()
    undisturbed, resumed = whole_and_resumed(world, options, monkeypatch)
    assert resumed.artifact.digest == undisturbed.artifact.digest


def test_early_stopping_goes_by_the_perplexity_of_the_validation_rows(support):
    world = support()
    stopping = {"everySteps": 20, "patience": 9, "validationFraction": "0.3"}
    made = world.train(world.run_file(hyperparameters=FAST, earlyStopping=stopping))
    assert made.metrics["best_step"] > 0
    assert 1 < made.metrics["validation"] < 2


@pytest.mark.parametrize("llama", [False, True], ids=["gpt2", "llama"])
def test_lora_leaves_the_head_as_it_is(support, llama):
    world = support(llama=llama)
    options = {"method": {"type": "LoRA", "lora": {"rank": 8}}}
    hyperparameters = FAST | {"learningRate": "2e-2", "freeze": {}}
    made = world.train(world.run_file(hyperparameters=hyperparameters, **options))
    assert likelihood(made.artifact).mean() < likelihood(world.parent).mean() - 1
    heads = [
        AutoModelForCausalLM.from_pretrained(local_path(each.uri)).lm_head.weight
        for each in (world.parent, made.artifact)
    ]
    assert torch.equal(*heads)


def greedy(scorer, prompt: str) -> str:
    """Respond by whole passes, without a cache, one row at a time."""
    words, ids = scorer.tokenizer, scorer.tokenizer.prompt(prompt, 10)
    made: list[int] = []
    while len(made) < 6 and words.end not in made:
        with torch.no_grad():
            logits = scorer.model(input_ids=torch.tensor([[*ids, *made]])).logits
        made.append(int(logits[0, -1].argmax()))
    return words.text(made)


@pytest.mark.parametrize("llama", [False, True], ids=["gpt2", "llama"])
@pytest.mark.parametrize(
    "method",
    [
        {"type": "PromptTuning", "promptTuning": {"tokens": 4}},
        {"type": "PrefixTuning", "prefixTuning": {"tokens": 4}},
    ],
    ids=["prompt", "prefixes"],
)
def test_a_decoder_responds_with_a_prompt_or_prefixes_beside_its_own_weights(
    support, method, llama
):
    world = support(llama=llama)
    hyperparameters = FAST | {"learningRate": "3e-2", "freeze": {}, "epochs": 5}
    made = world.train(world.run_file(hyperparameters=hyperparameters, method=method))
    assert likelihood(made.artifact).mean() < likelihood(world.parent).mean() - 0.3
    before, after = (
        load_file(local_path(each.uri) / name)
        for each, name in (
            (world.parent, "model.safetensors"),
            (made.artifact, "model.adapted.safetensors"),
        )
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())

    little = FAST | {"learningRate": "1e-3", "freeze": {}, "epochs": 1}
    other = world.train(world.run_file("little", hyperparameters=little, method=method))
    prompts = ["good good good help red", "the", "help lamp", "good a"]
    responses = set()
    for each in (made.artifact, other.artifact):
        scorer = load(local_path(each.uri), each.digest)
        found = scorer.respond(prompts, scorer.limits)
        assert found == [greedy(scorer, prompt) for prompt in prompts]
        responses |= {*found}
    assert len(responses) > 2


def test_adversarial_steps_and_pruned_forms_are_those_of_every_task(support):
    world = support()
    run = world.run_file(hyperparameters=FAST, robustness={"adversarial": {"epsilon": "0.1"}})
    plain = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["recipe"]["serving"] = {"optimise": {"pruning": {"sparsity": "0.1"}}}
    made = world.train(RunFile.model_validate(plain))
    served = made.artifact.served
    pruned = made.artifact.model_copy(
        update={"uri": world.home.artifact(served.digest).as_uri(), "digest": served.digest}
    )
    one, other = likelihood(made.artifact).mean(), likelihood(pruned).mean()
    assert one < 1
    assert one != other < 2


def test_replayed_rows_have_their_responses(support):
    world = support()
    training = {
        "hyperparameters": FAST | {"epochs": 1},
        "retention": {"replay": {"ratio": "0.5", "rowsPerClass": 0, "bufferRows": 200}},
    }
    first = world.train(world.run_file("g1-train-1", **training))
    world.data = freeze(world.home, dialogues(60, seed=4))
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
    assert batch[MASK].sum(dim=1).tolist() == found.examples.terms.tolist()
    assert found.examples.labels[:, 0].tolist() == found.examples.terms.tolist()
    assert set(found.examples.terms.tolist()) == {2, 3, 4}, "1 to 3 words, and the end"


def test_generation_0_is_trained_and_has_no_settings_of_sampling(support, tmp_path):
    source = decoders.publish(tmp_path / "decoder", WORDS)
    settings = {"do_sample": True, "temperature": 0.3, "transformers_version": "0"}
    (source / "generation_config.json").write_text(json.dumps(settings))
    made = imported(source, Home(tmp_path / "other"), model=MODEL)
    assert made.head == "Trained"
    written = json.loads((local_path(made.uri) / "generation_config.json").read_text())
    assert written.get("eos_token_id") == 1
    assert written.get("do_sample") in {None, False}
    assert "transformers_version" not in written
    preprocess = json.loads((local_path(made.uri) / "preprocess.json").read_text())
    assert (preprocess["task"], preprocess["causalLm"]) == ("CausalLM", {"maxNewTokens": 6})


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"parallelism": {"type": "FSDP"}}, r"not trained with parallelism\.type FSDP"),
        (
            {"robustness": {"augmentation": {"wordSwap": "0.1"}}},
            r"not trained with robustness\.augmentation",
        ),
    ],
)
def test_what_the_task_is_not_trained_with_is_refused(support, training, message):
    world = support()
    with pytest.raises(Refused, match=message):
        world.train(world.run_file(**training))


def test_an_encoder_is_refused(tmp_path):
    with pytest.raises(Refused, match="model_type 'bert' is no decoder"):
        imported(publish(tmp_path / "bert"), Home(tmp_path / "home"), model=MODEL)


def test_a_decoder_without_its_head_is_refused(tmp_path):
    source = decoders.publish(tmp_path / "decoder", WORDS, llama=True)
    LlamaModel.from_pretrained(source).save_pretrained(source)
    with pytest.raises(Refused, match=r"weights of the decoder are missing, such as lm_head\.wei"):
        imported(source, Home(tmp_path / "home"), model=MODEL)


def test_a_tokenizer_without_a_token_that_ends_texts_is_refused(tmp_path):
    source = decoders.publish(tmp_path / "decoder", WORDS)
    path = source / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": None}))
    with pytest.raises(Refused, match="no token that ends texts"):
        imported(source, Home(tmp_path / "home"), model=MODEL)
