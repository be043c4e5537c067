"""A text on which a library in Rust panics fails its own request, and a model at its load."""

from __future__ import annotations

import asyncio

import pytest
from server.conftest import made
from trainer.panicking import TEXT, WORD

from springtide_trainer.artifact.preprocess import Preprocess

INFER = "/v2/models/model/infer"
LABELS = ["no", "maybe", "yes"]


@pytest.mark.survives(
    "Requests",
    "a text on which the tokenizer panics",
    "500 for its own request; others are answered",
)
async def test_a_text_on_which_the_tokenizer_panics_fails_its_own_request_only(
    tmp_path, hosted, ask
):
    preprocess = Preprocess(text="query", max_length=32, labels=LABELS)
    model = made(tmp_path, preprocess, added=[WORD])

    async with hosted(model.settings) as (client, _), asyncio.timeout(120):
        together = await asyncio.gather(
            *(client.post(INFER, json=ask(text=[text])) for text in ("red", TEXT, "blue"))
        )
        after = await client.post(INFER, json=ask(text=["red"]))

    assert [answer.status_code for answer in together] == [200, 500, 200]
    assert together[1].json() == {"error": "internal server error: Panicked"}
    assert after.json() == together[0].json()


def test_a_tokenizer_that_panics_at_the_load_is_reported_in_the_termination_message(
    tmp_path, start
):
    (tmp_path / "termination-log").touch()
    preprocess = Preprocess(
        features=["title"], template=f"{{title}} {TEXT}", max_length=32, labels=LABELS
    )
    model = made(tmp_path / "home", preprocess, added=[WORD])

    server = start(MODEL_URI=model.artifact.uri, MODEL_DIGEST=model.artifact.digest)
    server.popen.communicate(timeout=300)

    assert server.popen.returncode == 1
    assert (tmp_path / "termination-log").read_text() == (
        "failed: Panicked: a library panicked; its message is on standard error"
    )
