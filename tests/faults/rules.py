"""Faults that the proxy can inject; a test that needs another one writes its own rule."""

import asyncio
import contextlib
import json
import time

from faults.proxy import Answer, Cut, whole

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def writes(call):
    return bool(call.number)


def watches(call):
    return call.watch


def everything(call):
    return True


def but_leases(call):
    return not call.lease


def within(scene, of=writes):
    """Pick only what concerns the namespace of a scene."""
    return lambda call: f"/{scene.namespace}/" in call.path and of(call)


class Nth:
    """Picks the n-th of the calls that `of` picks, and as many as given from there on."""

    def __init__(self, number, of=writes, *, times=1):
        self._of, self._range, self._seen = of, (number, number + times), 0

    def __call__(self, call):
        picked = self._of(call)
        self._seen += picked
        first, end = self._range
        return picked and first <= self._seen < end


def first(of):
    return Nth(1, of)


def refuse(code, of=writes, *, done=False, **headers):
    """Answer with a Status; `done`: although the API server did what was asked."""

    async def rule(call, pass_on):
        if not of(call):
            return await pass_on()
        if done:
            await pass_on()
        return refusal(code, **headers)

    return rule


def delay(seconds, of=writes):
    """Hold back what is asked."""

    async def rule(call, pass_on):
        if of(call):
            await asyncio.sleep(seconds)
        return await pass_on()

    return rule


def swallow_answers(of=writes):
    """Do what is asked and never answer."""

    async def rule(call, pass_on):
        answer = await pass_on()
        if of(call):
            await asyncio.Event().wait()
        return answer

    return rule


def carry_out_late(seconds, of=writes):
    """Do what is asked so many seconds later, whether or not anybody still waits for it."""

    async def rule(call, pass_on):
        if not of(call):
            return await pass_on()

        async def late():
            await asyncio.sleep(seconds)
            return await pass_on()

        call.late = asyncio.create_task(late())
        return await asyncio.shield(call.late)

    return rule


def cut(of=writes, *, done=False):
    """Break the connection before, or after the API server did what was asked."""

    async def rule(call, pass_on):
        if not of(call):
            return await pass_on()
        if done:
            await pass_on()
        raise Cut

    return rule


def rewrite(change, of=watches):
    """Hand the operator `change(lines)` instead of a watch's lines."""

    async def rule(call, pass_on):
        answer = await pass_on()
        if of(call) and answer.status == 200:
            answer.body = change(answer.body)
        return answer

    return rule


def end_watch(seconds, last):
    """Pass a watch's lines on for so long, then the last one."""

    async def change(lines):
        end = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError, StopAsyncIteration):
            while True:
                yield await asyncio.wait_for(anext(lines), end - time.monotonic())
        yield last

    return change


def status_of(code, message="so says the proxy"):
    """Make the Status that comes with a code."""
    failure = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {}}
    return {
        **failure,
        "code": code,
        "reason": REASONS.get(code, "InternalError"),
        "message": message,
    }


def refusal(code, **headers):
    """Make an answer that refuses; headers as in Retry_After="3"."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = whole(json.dumps(status_of(code)).encode())
    return Answer(code, body, {"Content-Type": "application/json", **named})


def error_event(code):
    """Make the last line of a watch that ends with an error."""
    return json.dumps({"type": "ERROR", "object": status_of(code)}).encode() + b"\n"
