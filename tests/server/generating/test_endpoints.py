"""A decoder answers with generated texts: rows of `infer`, and one prompt of `generate`."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch
from server.generating.conftest import make
from trainer import decoders
from transformers import AutoModelForCausalLM

from springtide_trainer.artifact import models
from springtide_trainer.storage import local_path

PROMPTS = ["red shoe", "cheap", "small garden lamp for winter kids blue", ""]
INFER = "/v2/models/model/infer"
GENERATE = "/v2/models/model/generate"
STREAM = "/v2/models/model/generate_stream"


def plain_response(made, prompt: str, new: int = 6) -> str:
    """Take the most probable next token again and again, by whole passes of plain transformers."""
    model = AutoModelForCausalLM.from_pretrained(local_path(made.artifact.uri)).eval()
    words = decoders.tokenizer()
    ids = words(prompt)["input_ids"] or [words.eos_token_id]
    begin = len(ids)
    for _ in range(new):
        with torch.no_grad():
            following = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if following == words.eos_token_id:
            break
        ids.append(following)
    return words.decode(ids[begin:], skip_special_tokens=True)


def events(text: str) -> list[dict[str, str]]:
    parts = text.split("\n\n")
    assert parts[-1] == ""
    assert all(part.startswith("data: ") for part in parts[:-1])
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-1]]


async def test_infer_responds_to_each_row_as_whole_passes_of_plain_transformers_do(
    responder, serve, ask
):
    async with serve(responder.settings) as client:
        answer = (await client.post(INFER, json=ask(text=PROMPTS))).json()
    (tensor,) = answer["outputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("response", "BYTES", [4])
    assert tensor["data"] == [plain_response(responder, prompt) for prompt in PROMPTS]
    assert len(set(tensor["data"])) > 1, "the responses depend on the prompts"


async def test_rows_of_several_requests_are_answered_together_as_alone(responder, serve, ask):
    async with serve(responder.settings, max_delay=0.2) as client:
        alone = [(await client.post(INFER, json=ask(text=[one]))).json() for one in PROMPTS]
        together = await asyncio.gather(
            *(client.post(INFER, json=ask(text=[one])) for one in PROMPTS)
        )
    assert [each.json()["outputs"] for each in together] == [each["outputs"] for each in alone]


async def test_responses_of_a_request_are_scored_as_by_the_evaluation(responder, serve, ask):
    scorer = models.load(local_path(responder.artifact.uri), responder.artifact.digest)
    responses = ["lamp", "blue shoe", "cheap red dress", "kids"]
    expected = scorer.predict(list(zip(PROMPTS, responses, strict=True)))[:, 0]
    async with serve(responder.settings, max_delay=0.2) as client:
        scored, generated = await asyncio.gather(
            client.post(INFER, json=ask(text=PROMPTS, response=responses)),
            client.post(INFER, json=ask(text=PROMPTS[:2])),
        )
    (tensor,) = scored.json()["outputs"]
    assert (tensor["name"], tensor["datatype"]) == ("negative_log_likelihood", "FP32")
    assert tensor["data"] == pytest.approx(expected.tolist(), abs=1e-5)
    (tensor,) = generated.json()["outputs"]
    assert tensor["data"] == [plain_response(responder, prompt) for prompt in PROMPTS[:2]]


async def test_the_metadata_have_both_kinds_of_requests(responder, serve):
    async with serve(responder.settings) as client:
        described = (await client.get("/v2/models/model")).json()
    assert [tensor["name"] for tensor in described["inputs"]] == ["text", "response"]
    assert [tensor["name"] for tensor in described["outputs"]] == [
        "response",
        "negative_log_likelihood",
    ]


async def test_generate_and_its_stream_have_the_response_of_infer(responder, serve):
    body = {"text_input": PROMPTS[0], "id": "42"}
    async with serve(responder.settings) as client:
        whole = (await client.post(GENERATE, json=body)).json()
        streamed = await client.post(STREAM, json=body)
    expected = plain_response(responder, PROMPTS[0])
    common = {
        "model_name": "model",
        "model_version": "3",
        "id": "42",
        "parameters": {"digest": responder.artifact.digest},
    }
    assert whole == {**common, "text_output": expected}
    assert streamed.headers["content-type"].startswith("text/event-stream")
    parts = events(streamed.text)
    assert "".join(part["text_output"] for part in parts) == expected
    assert len(parts) == len(expected.split()), "a part for each word"
    assert all(part.items() >= common.items() for part in parts)


async def test_a_request_may_ask_for_fewer_tokens_and_not_for_more(responder, serve):
    async def asked(client, new):
        body = {"text_input": PROMPTS[0], "parameters": {"max_new_tokens": new, "temperature": 2}}
        whole = (await client.post(GENERATE, json=body)).json()["text_output"]
        parts = events((await client.post(STREAM, json=body)).text)
        assert "".join(part["text_output"] for part in parts) == whole
        return whole

    async with serve(responder.settings) as client:
        found = [await asked(client, new) for new in (2, 100)]
    assert found == [plain_response(responder, PROMPTS[0], new) for new in (2, 6)]


async def test_features_are_given_by_their_names(of_features, serve):
    body = {"history": "red", "question": "lamp"}
    async with serve(of_features.settings) as client:
        answer = await client.post(GENERATE, json=body)
    assert answer.json()["text_output"] == plain_response(of_features, "red small lamp")


async def test_features_can_have_the_names_of_other_fields(tmp_path, serve):
    named = make(tmp_path, features=["id", "parameters", "text"], template="{id}{parameters}{text}")
    body = {"id": "red ", "parameters": "small ", "text": "lamp"}
    async with serve(named.settings) as client:
        answer = await client.post(GENERATE, json=body)
        lacking = await client.post(GENERATE, json=body | {"parameters": {}})
    assert answer.json()["text_output"] == plain_response(named, "red small lamp")
    assert "id" not in answer.json()
    message = "parameters must be a string; this model reads id, parameters, text"
    assert (lacking.status_code, lacking.json()) == (400, {"error": message})


async def test_a_prompt_longer_than_its_room_is_cut_at_its_beginning(responder, serve):
    tail = " ".join(["red", "blue"] * 9)
    async with serve(responder.settings) as client:
        texts = [
            (await client.post(GENERATE, json={"text_input": prompt})).json()["text_output"]
            for prompt in (tail, "cheap " * 5000 + tail)
        ]
    assert texts[0] == texts[1] == plain_response(responder, tail)


@pytest.mark.parametrize("path", [GENERATE, STREAM])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "text_input must be a string; this model reads text_input"),
        ({"text_input": 3}, "text_input must be a string; this model reads text_input"),
        (
            {"text_input": "a", "parameters": {"max_new_tokens": 0}},
            "parameters.max_new_tokens: Input should be greater than or equal to 1",
        ),
        ([], "the body: Input should be a valid dictionary or instance of GenerateRequest"),
    ],
    ids=str,
)
async def test_an_invalid_request_is_answered_400(responder, serve, path, body, message):
    async with serve(responder.settings) as client:
        answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": message})


@pytest.mark.parametrize("path", [GENERATE, STREAM])
async def test_a_model_of_another_task_generates_nothing(texts, serve, path):
    async with serve(texts.settings) as client:
        answer = await client.post(path, json={"text_input": "red"})
        other = await client.post(path.replace("/model/", "/other/"), json={"text_input": "red"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "this model generates no text; use infer"}
    assert other.status_code == 404


async def test_the_outcome_of_each_request_is_counted(responder, hosted):
    async with hosted(responder.settings) as (client, service):
        for path in (GENERATE, STREAM):
            await client.post(path, json={"text_input": "red"})
            await client.post(path, json={})
        registry = service.metrics.registry
        counted = {
            outcome: sum(
                sample.value
                for metric in registry.collect()
                for sample in metric.samples
                if sample.name.endswith("request_seconds_count")
                and sample.labels.get("outcome") == outcome
            )
            for outcome in ("ok", "invalid")
        }
    assert counted == {"ok": 2, "invalid": 2}
