"""What a recording shows of pods that shared the rows of a stage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from springtide_api.names import LABEL_INDEX

if TYPE_CHECKING:
    from e2e.recordings import Recording

STAGE = "springtide.dev/stage"
DONE = {"tokenize": "token cache written", "evaluate": "shard scored"}
"""The last words of a pod that has done its share, by stage."""
ROWS = {"tokenize": "rows", "evaluate": "holdoutRows"}
"""The rows that are shared, by stage, in `spec.data` of the generation."""
ROWS_PER_SHARD = 1000


def two_pods_shared_the_rows(shown: Recording, stage: str) -> None:
    """Assert that the first generation has rows for two shards, each of a pod of one attempt."""
    data = shown.example.generations()[1]["spec"]["data"]
    assert ROWS_PER_SHARD < data[ROWS[stage]] <= 2 * ROWS_PER_SHARD
    states = [json.loads(line)["object"] for line in shown.objects()["pods"].splitlines()]
    pods = [each["metadata"] for each in states if each["metadata"]["labels"].get(STAGE) == stage]
    assert {each["labels"].get(LABEL_INDEX) for each in pods} == {"0", "1"}
    jobs = {each["labels"]["batch.kubernetes.io/job-name"] for each in pods}
    assert len(jobs) == 1, "one attempt"
    logs = [log for name, log in shown.logs().items() if f"-{stage}-" in name]
    assert sum(log.count(f'"{DONE[stage]}"') for log in logs) >= 2


def the_training_tokenized_nothing(shown: Recording) -> None:
    """Assert that it found the shards of the pods that tokenized."""
    logs = [log for name, log in shown.logs().items() if "-train-" in name]
    assert logs
    assert not [log for log in logs if "token cache" in log]
