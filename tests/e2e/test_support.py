"""A support assistant on a cluster: trained on dialogues, it answers whole and part by part."""

import json

import pytest
from demo.example import UPDATE
from e2e import served_answers, sharing
from e2e.small_model import THINGS
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

QUESTIONS = [{"history": "next", "question": f"the sturdy {thing}"} for thing in THINGS]
RIGHT = [f"the {thing} is here" for thing in (*THINGS[1:], THINGS[0])]
"""What the support answers."""
INPUTS = {
    "history": "feature:history",
    "question": "feature:question",
    "response": "label",
}


@pytest.fixture(scope="module")
def shown(tasks):
    """What is shown of an update whose first trained generation is live."""
    with tasks("test_support") as recording:
        recording.example.goes_live(1, seconds=420)
        yield recording


@pytest.fixture
def served(shown):
    return shown.example


def answers(example):
    """The whole answers, all of the first trained generation."""
    found = [json.loads(text) for _, text in served_answers.posted(example, "generate", QUESTIONS)]
    assert {answer["model_version"] for answer in found} == {"1"}
    return [answer["text_output"] for answer in found]


def test_the_trained_decoder_is_accepted_by_its_perplexity(served):
    generation = served.generations()[1]
    assert generation["status"]["verdict"] == "Accepted"
    (useful, *_) = generation["status"]["evaluation"]["results"]
    assert (useful["metric"], useful["verdict"]) == ("perplexity", "Pass")


def test_the_server_answers_as_the_support_did_and_as_transformers_continues(served):
    found = answers(served)
    assert sum(map(str.__eq__, found, RIGHT)) >= 6

    generation = served.generations()[1]
    template = generation["spec"]["recipe"]["data"]["source"]["columns"]["template"]
    folder = served.files(generation["status"]["artifact"]["uri"])
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for question, answer in zip(QUESTIONS, found, strict=True):
        tokens = tokenizer(template.format(**question), return_tensors="pt")
        made = model.generate(
            **tokens, do_sample=False, max_new_tokens=8, pad_token_id=tokenizer.eos_token_id
        )
        new = made[0, tokens["input_ids"].shape[1] :]
        assert answer == tokenizer.decode(new, skip_special_tokens=True)


def test_a_streamed_answer_comes_in_parts_which_are_the_whole(served):
    streams = served_answers.posted(served, "generate_stream", QUESTIONS)
    assert {kind for kind, _ in streams} == {"text/event-stream"}
    parts = [
        [json.loads(event.removeprefix("data: ")) for event in text.strip().split("\n\n")]
        for _, text in streams
    ]
    assert [len(events) for events in parts] == [4] * len(QUESTIONS), "a word in each"
    joined = ["".join(event["text_output"] for event in events) for events in parts]
    assert joined == answers(served)
    assert {event["model_version"] for events in parts for event in events} == {"1"}


def test_the_served_likelihoods_of_responses_are_those_of_the_evaluation(served):
    found = served_answers.compared(served, 1, INPUTS)
    assert found.version == "1"
    assert found.tensor == ["negative_log_likelihood", "FP32", [served_answers.SAMPLE]]
    assert found.difference < 1e-4


@pytest.mark.parametrize("stage", sharing.DONE)
def test_two_pods_on_one_claim_share_the_rows_of_a_stage_and_leave_no_shard(served, shown, stage):
    sharing.two_pods_shared_the_rows(shown, stage)
    home = served.folder("models") / served.namespace / UPDATE
    assert (home / "artifacts").is_dir()
    assert not list(home.glob("checkpoints/g1/*/**/*.*"))


def test_the_training_tokenized_nothing_that_was_on_the_claim(shown):
    sharing.the_training_tokenized_nothing(shown)
