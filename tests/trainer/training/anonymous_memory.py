"""Prints the bytes by which RssAnon grows while the rows of a run file are loaded and used, twice.

Run by `test_token_cache.py`: `python anonymous_memory.py <run file> <folder>`.
"""

import re
import sys
from itertools import islice
from pathlib import Path

import torch

from springtide_api.contract import RunFile
from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.storage import Home, local_path
from springtide_trainer.training.rows.batches import StepSampler, steps
from springtide_trainer.training.rows.token_shards import Shards
from springtide_trainer.training.rows.training_rows import load

STEPS = 200


def anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found
    return 1024 * int(found[1])


def main(run: RunFile, scratch: Path) -> None:
    assert run.train is not None
    parent, data = local_path(run.train.parent.uri), run.train.data
    load_tokenizer(parent)(["good"])
    shards = Shards.of(run, Home(Path(run.home)))
    for _ in range(2):
        before = peak = anonymous()
        rows = load(
            local_path(data.uri),
            data.digest,
            run.recipe,
            parent=parent,
            scratch=scratch,
            shards=shards,
        )
        peak = max(peak, anonymous())
        sampler = StepSampler(
            rows.units,
            data.digest,
            seed=1,
            batch_size=32,
            accumulation=1,
            pass_rows=32,
        )
        made = steps(rows.examples, sampler, collate=torch.from_numpy, first=1, last=10**9)
        for _ in islice(made, STEPS):
            peak = max(peak, anonymous())
        print(peak - before)
        del rows, made


if __name__ == "__main__":
    main(RunFile.model_validate_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
