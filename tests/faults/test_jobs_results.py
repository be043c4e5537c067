"""A result that is truncated, huge, not JSON or of another Job: nothing is promoted on it."""

import asyncio
import json

import pytest
from faults.directing import directed
from lifecycle.world import digest

pytestmark = pytest.mark.apiserver

SERVED = "sha256:" + "f" * 64


async def at(ground, stage, attempts=1):
    """A scene in which generation 1 is at this stage; it may be tried so often."""
    scene = await directed(ground, held=[stage])
    scene.world.months = ["2025-01", "2025-02"]
    await scene.declare(training={"limits": {"maxAttempts": attempts}})
    await scene.start()
    await scene.until(lambda scene: scene.generation(0).get("verdict") == "Imported")
    await scene.until(lambda scene: scene.update_status.get("observedGeneration"))
    await scene.ask("run@1")
    return scene, await scene.job(stage)


EVALUATIONS = {
    "truncated at 4,096 bytes": lambda text, said: text[: len(text) - 40],
    "longer than the kubelet keeps": lambda text, said: text + " " * 5000,
    "not JSON": lambda text, said: "Traceback (most recent call last): ...",
    "empty": lambda text, said: "",
    "a list": lambda text, said: f"[{text}]",
    "of another Job": lambda text, said: json.dumps({**said, "job": said["job"][:-1] + "7"}),
    "of another stage": lambda text, said: json.dumps({**said, "stage": "train"}),
    "of another generation": lambda text, said: json.dumps({**said, "number": 7}),
    "without numbers": lambda text, said: json.dumps({**said, "evaluate": None}),
}
"""What becomes of the message, and so of an attempt that ended with code 0."""


@pytest.mark.survives(
    "Results",
    "the termination message is truncated, longer than 4 KiB, not JSON, empty, of another Job, "
    "stage or generation, or without numbers, although the pod succeeded",
    "counted as a failed attempt, `ResultMissing`; nothing is evaluated or promoted on it",
)
async def test_a_message_that_is_no_result_of_this_job_counts_as_a_failed_attempt(ground):
    async def recorded(spoil):
        scene, job = await at(ground, "evaluate")
        said = await scene.result(job)
        await scene.succeed(job, spoil(json.dumps(said), said))
        await scene.until(lambda scene: scene.generation(1)["verdict"] == "Failed", 90)
        assert scene.generation(1)["reason"] == "ResultMissing"
        await scene.until(lambda scene: scene.update_status["lastRun"]["reason"] == "ResultMissing")
        assert "missing or belongs to another Job" in scene.update_status["lastRun"]["message"]
        assert scene.templates in ([], [""])
        assert not scene.update_status.get("live")

    await asyncio.gather(*map(recorded, EVALUATIONS.values()))


def _rows(said, value):
    rows = [[row[0], *[value] * 11, *row[12:]] for row in said["evaluate"]["rules"]]
    return {**said, "evaluate": {**said["evaluate"], "rules": rows}}


def _about(said, **changes):
    return {**said, "evaluate": {**said["evaluate"], **changes}}


NUMBERS = {
    "NaN": lambda said: _rows(said, float("nan")),
    "infinity": lambda said: _rows(said, float("inf")),
    "nothing": lambda said: _rows(said, None),
    "other weights": lambda said: _about(said, candidateDigest=SERVED),
    "another holdout": lambda said: _about(said, holdoutDigest=digest("another")),
    "a baseline that was not requested": lambda said: _about(said, baselineDigest=SERVED),
    "a rule that was not requested": lambda said: _about(
        said, rules=[["invented", *row[1:]] for row in said["evaluate"]["rules"]]
    ),
    "no rules": lambda said: _about(said, rules=[]),
}


@pytest.mark.survives(
    "Results",
    "numbers that are NaN, infinite or missing; or of other weights, another holdout, or a "
    "rule that does not exist",
    "Inconclusive with the reason; never promoted",
)
async def test_missing_or_foreign_numbers_promote_nothing(ground):
    async def recorded(spoil):
        scene, job = await at(ground, "evaluate")
        await scene.succeed(job, json.dumps(spoil(await scene.result(job))))
        await scene.until(lambda scene: scene.generation(1)["verdict"] == "Inconclusive", 90)
        assert scene.generation(1)["message"]
        assert scene.templates in ([], [""])
        assert not scene.update_status.get("live")

    await asyncio.gather(*map(recorded, NUMBERS.values()))


MONSTROUS = {
    "reason": "Bad",
    "message": "\x1b[31m{} %s\n" + "m" * 2500,
    "field": "spec.data." + "f" * 300,
}


@pytest.mark.survives(
    "Results",
    "a failure with a huge message, control characters and line breaks",
    "cut to the limit of a status, on one line; the run fails, the operator continues",
)
async def test_huge_messages_of_a_trainer_are_cut_to_the_limits_of_a_status(ground):
    async def of(stage, code):
        scene, job = await at(ground, stage)
        name = job["metadata"]["name"]
        number = None if stage == "probe" else 1
        said = {"job": name, "stage": stage, "number": number, "ok": False, "failure": MONSTROUS}
        await scene.fail(job, code, json.dumps(said))
        if stage == "probe":
            await scene.until(
                lambda scene: (scene.update_status.get("lastProbe") or {}).get("failures")
            )
        else:
            await scene.until(lambda scene: scene.generation(1)["verdict"] == "Failed", 90)
            await scene.until(lambda scene: scene.update_status["lastRun"]["verdict"] == "Failed")
        assert scene.update_status["phase"] == "Idle"

    async def is_tried_again(stage):
        scene, job = await at(ground, stage, attempts=2)
        name = job["metadata"]["name"]
        said = {"job": name, "stage": stage, "number": 1, "ok": False, "failure": MONSTROUS}
        await scene.fail(job, 1, json.dumps(said))
        await scene.job(stage, 2)

    async def invents(**changes):
        scene, job = await at(ground, "train")
        said = await scene.result(job)
        said["train"] |= changes
        await scene.succeed(job, json.dumps(said))
        await scene.until(lambda scene: scene.generation(1)["verdict"] == "Failed", 90)

    await asyncio.gather(
        *(of(stage, code) for stage in ("probe", "train", "evaluate") for code in (1, 3)),
        is_tried_again("train"),
        is_tried_again("evaluate"),
        invents(steps=10**30),
        invents(artifact={"uri": "file:///a/../../etc", "digest": SERVED, "bytes": 1}),
        invents(artifact={"uri": "https://elsewhere/", "digest": SERVED, "bytes": 1}),
        invents(artifact={"uri": "file:///" + "x" * 2000, "digest": SERVED, "bytes": 1}),
    )
