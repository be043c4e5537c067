"""Batches that are made ahead, in a thread, are the batches of a loop that makes them itself."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest
import torch

from springtide_trainer.tasks.task import Batch
from springtide_trainer.training import fit
from springtide_trainer.training.engine.prefetch import AHEAD, ahead, feed

if TYPE_CHECKING:
    from collections.abc import Iterator


def running() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("batches")]


@pytest.mark.parametrize("count", [1, 2, 50])
def test_items_come_in_their_order_and_each_once(count):
    assert list(ahead(range(20), lambda item: item * 2, count=count)) == list(range(0, 40, 2))
    assert list(ahead([], str, count=count)) == []
    assert running() == []


def test_items_are_made_ahead_in_one_other_thread():
    threads: list[str] = []
    fourth = threading.Event()

    def convert(item: int) -> None:
        threads.append(threading.current_thread().name)
        if len(threads) == 4:
            fourth.set()

    items = ahead(range(9), convert, count=3)
    next(items)
    assert fourth.wait(60)  # one was taken, three are ready
    items.close()
    assert len(threads) == 4
    assert len(set(threads)) == 1
    assert threading.current_thread().name not in threads
    assert running() == []


def test_an_error_is_raised_where_its_item_would_have_come():
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("rows are gone")

    made = ahead(items(), int, count=2)
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(OSError, match="rows are gone"):
        next(made)
    assert running() == []


def test_a_cpu_gets_the_steps_themselves():
    steps = (step for step in ())
    assert feed(steps, torch.device("cpu")) is steps
    assert feed(steps, torch.device("cuda")) is not steps


def test_a_batch_on_a_device_has_all_its_tensors_there():
    batch = Batch({"input_ids": torch.ones(2, 3)}, torch.ones(2), torch.ones(2), (2,))
    moved = batch.to(torch.device("meta"))
    tensors = [*moved.inputs.values(), moved.labels, moved.weights]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.groups, moved.inputs["input_ids"].shape) == ((2,), (2, 3))


def test_a_training_with_batches_made_ahead_gives_the_same_weights_also_resumed(world, monkeypatch):
    options = {"epochs": 2, "batchSize": 16, "learningRate": "1e-3", "dropout": "0.1"}
    run = world.run_file("plain", hyperparameters=options, checkpoint={"everySteps": 20})
    plain = world.train(run).artifact.digest
    monkeypatch.setattr(fit, "feed", lambda steps, _: ahead(steps, lambda step: step, count=AHEAD))
    resumed = world.train(run.model_copy(update={"job": "resumed"})).artifact.digest
    shutil.rmtree(world.home.checkpoints(1))
    whole = world.train(run.model_copy(update={"job": "whole"})).artifact.digest
    assert plain == resumed == whole
    assert running() == []
