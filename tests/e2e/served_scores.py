"""Runs in the loader: sends rows that the evaluator scored to the server, and compares.

Prints JSON: rows compared, and the largest difference of a probability. A row that a pod of another
version answers is asked again: such pods end a moment after the promotion.
"""

import http.client
import json
import random
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

SAMPLE = 200


def main(report: str, manifest: str, version: str) -> None:
    scores = pq.read_table(Path(report) / "scores.parquet").to_pylist()
    rows = pq.read_table(Path(manifest) / "holdout.parquet").to_pylist()
    judged = [one for one in scores if one["dataset"] == "holdout"]
    sample = random.Random(17).sample(judged, SAMPLE)
    differences = []
    for one in sample:
        pairs = zip(answer(rows[one["row"]], version), one["candidate"], strict=True)
        differences.append(max(abs(served - scored) for served, scored in pairs))
    print(json.dumps({"rows": SAMPLE, "difference": max(differences)}))


def answer(row: dict, version: str) -> list[float]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answered_by, probabilities = ask(row)
        if answered_by == version:
            return probabilities
        time.sleep(0.5)
    sys.exit(f"a minute after the promotion version {answered_by} answers, not {version}")


def ask(row: dict) -> tuple[str, list[float]]:
    inputs = [
        {"name": name, "shape": [1], "datatype": "BYTES", "data": [row[name]]}
        for name in ("text", "text_pair")
    ]
    connection = http.client.HTTPConnection("recommender.shop.svc", timeout=30)
    body = json.dumps({"inputs": inputs})
    connection.request("POST", "/v2/models/recommender/infer", body)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["model_version"], answer["outputs"][0]["data"]


main(*sys.argv[1:])
