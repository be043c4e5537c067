"""Streams and batches at the same time."""

from __future__ import annotations

import asyncio
import json

INFER, STREAM = (f"/v2/models/model/{name}" for name in ("infer", "generate_stream"))
PROMPTS = ["red shoe", "cheap", "small garden lamp for winter", "", "blue dress", "lamp lamp"]


async def test_streams_and_batches_at_the_same_time_have_the_responses_they_have_alone(
    responder, serve, ask
):
    async with serve(responder.settings, max_delay=0.0) as client:

        async def whole(prompt):
            answer = await client.post(INFER, json=ask(text=[prompt]))
            return answer.json()["outputs"][0]["data"][0]

        async def streamed(prompt):
            answer = await client.post(STREAM, json={"text_input": prompt})
            parts = [json.loads(part[6:]) for part in answer.text.split("\n\n") if part]
            return "".join(part["text_output"] for part in parts)

        alone = [await whole(prompt) for prompt in PROMPTS]
        together = await asyncio.gather(*map(streamed, PROMPTS[:4]), *map(whole, PROMPTS))
    assert together == [*alone[:4], *alone]
