"""Runs in the loader: sends rows that the evaluator scored to the server, and compares.

Prints JSON: rows compared, the model's version and the largest difference of a probability.
"""

import http.client
import json
import random
import sys
from pathlib import Path

import pyarrow.parquet as pq

SAMPLE = 200


def main(report: str, manifest: str) -> None:
    scores = pq.read_table(Path(report) / "scores.parquet").to_pylist()
    rows = pq.read_table(Path(manifest) / "holdout.parquet").to_pylist()
    judged = [one for one in scores if one["dataset"] == "holdout"]
    sample = random.Random(17).sample(judged, SAMPLE)
    differences = []
    for one in sample:
        version, probabilities = ask(rows[one["row"]])
        pairs = zip(probabilities, one["candidate"], strict=True)
        differences.append(max(abs(served - scored) for served, scored in pairs))
    print(json.dumps({"rows": SAMPLE, "version": version, "difference": max(differences)}))


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
