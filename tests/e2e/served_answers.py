"""Asks the server of an example, over its Service, and compares with what the evaluation found."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from demo.example import UPDATE
from e2e.small_example import Raw, SmallExample

SCRIPT = Path(__file__).with_name("posting.py")
SAMPLE = 100
"""Rows that are compared."""
DRAINING_SECONDS = 60.0
"""A pod that is replaced is gone by then."""
PAIR = {"text": "text", "text_pair": "text_pair"}
"""The columns of frozen rows that are the inputs of a model of pairs."""


def posted(example: SmallExample, verb: str, bodies: Sequence[Raw]) -> list[tuple[str, str]]:
    """Send requests; return the type of the content and the text of each answer."""
    host = example.get(f"service/{UPDATE}")["spec"]["clusterIP"]
    program = [sys.executable, str(SCRIPT), host, f"/v2/models/{UPDATE}/{verb}"]
    done = subprocess.run(
        example.node.in_namespace(program),
        check=True,
        input=json.dumps(bodies),
        stdout=subprocess.PIPE,
        text=True,
    )
    answers = json.loads(done.stdout)
    assert {status for status, *_ in answers} == {200}, answers
    return [(kind, text) for _, kind, text in answers]


def inferred(example: SmallExample, **inputs: Sequence[str]) -> Raw:
    """Ask for the outputs of rows, all in one request; return the answer."""
    tensors = [
        {"name": name, "shape": [len(rows)], "datatype": "BYTES", "data": list(rows)}
        for name, rows in inputs.items()
    ]
    ((_, text),) = posted(example, "infer", [{"inputs": tensors}])
    answer: Raw = json.loads(text)
    return answer


@dataclass(frozen=True)
class Compared:
    """Served values beside those of an evaluation.

    Attributes:
        version: The number of the generation that answered.
        tensor: Name, type and shape of the output.
        difference: The largest one between two values of a row.
    """

    version: str
    tensor: list[Any]
    difference: float


def compared(example: SmallExample, number: int, inputs: Mapping[str, str] = PAIR) -> Compared:
    """Ask for the values of rows that the evaluation of a generation scored.

    A pod of the generation before answers while it drains, until the node sends it no more.

    Args:
        example: Whose Service is asked.
        number: The generation.
        inputs: The column of the frozen rows by the name of each input.
    """
    scores, rows = (each[:SAMPLE] for each in evaluated(example, number))
    columns = {name: [row[column] for row in rows] for name, column in inputs.items()}
    until = time.monotonic() + DRAINING_SECONDS
    while True:
        answer = inferred(example, **columns)
        if answer["model_version"] == str(number) or time.monotonic() > until:
            break
        time.sleep(1)
    (value,) = answer["outputs"]
    pairs = zip(value["data"], scores, strict=True)
    return Compared(
        version=answer["model_version"],
        tensor=[value["name"], value["datatype"], value["shape"]],
        difference=max(abs(found - one["candidate"][0]) for found, one in pairs),
    )


def evaluated(example: SmallExample, number: int) -> tuple[list[Raw], list[Raw]]:
    """Return the scores of a generation's evaluation on its holdout, and the row of each."""
    evaluation = example.generations()[number]["status"]["evaluation"]
    report, holdout = evaluation["report"], evaluation["holdouts"][-1]["manifest"]
    scores = pq.read_table(example.files(report) / "scores.parquet").to_pylist()
    rows = pq.read_table(example.files(holdout) / "holdout.parquet").to_pylist()
    judged = [one for one in scores if one["dataset"] == "holdout"]
    return judged, [rows[one["row"]] for one in judged]
