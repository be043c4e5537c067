"""One training of the comparison: an option with a seed, step by step, in a process of its own."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from bench.methods.options import OPTIONS, with_option
from bench.retention.class_arrival import HELD_OUT, STEP, Setting, frozen, hits, spec
from bench.retention.lineage import Lineage, recipe
from bench.retention.online_retail import KINDS, products, share_of

from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    import argparse

    from springtide_api.contract import TrainOutput


def train(given: argparse.Namespace, job: tuple[str, int]) -> dict[str, Any]:
    """Train an option with a seed step by step; return what `page` makes a table of."""
    option, seed = OPTIONS[job[0]], job[1]
    torch.set_num_threads(1)
    classes = KINDS[: given.classes]
    order = np.random.default_rng(seed).permutation(classes).tolist()
    known = [each for each in products(hidden=True) if each[1] in classes]
    held_out = [each for each in known if share_of(each[0], "held out") < HELD_OUT]
    rows = [each for each in known if share_of(each[0], "held out") >= HELD_OUT]
    made: list[TrainOutput] = []
    seconds = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lineage = Lineage(Home(folder / "home"))
        setting = Setting(lineage, folder, order, rows, held_out, seed, given)
        for end in range(STEP, len(classes) + 1, STEP):
            labels = order[:end]
            plain = spec(setting, labels, option.stored, epochs=given.epochs)
            made_from = recipe(folder, with_option(plain, option, given.rate), folder)
            left_out = "unlabelled" not in option.training
            new = labels[-STEP:]
            arrived = frozen(setting, new, hidden=option.hidden, left_out=left_out)
            parent = made[-1] if made else lineage.imported(made_from)
            made.append(lineage.trained(made_from, parent, arrived))
            seconds += lineage.seconds
        last = made[-1].artifact
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        served = sum(file.stat().st_size for file in local_path(last.uri).iterdir())
        found = hits(last.uri, last.digest, held_out, order)
    kinds = np.array([kind for _, kind in held_out])
    return {
        "seed": seed,
        "hits": "".join("1" if each else "0" for each in found),
        "first": float(found[np.isin(kinds, order[:STEP])].mean()),
        "last": float(found[np.isin(kinds, order[-STEP:])].mean()),
        "rows": sum(each.rows for each in made),
        "steps": sum(each.steps for each in made),
        "seconds": round(seconds, 1),
        "memory": round(memory),
        "served": served,
    }


def tried(given: argparse.Namespace, job: tuple[str, int]) -> dict[str, Any]:
    """Train, and end with an error where a stage ends its process: a pool would wait for it."""
    try:
        return train(given, job)
    except SystemExit as ended:
        raise RuntimeError(f"{job}: {ended}") from ended
