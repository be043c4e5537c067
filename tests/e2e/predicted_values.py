"""Runs in the cluster's network: asks the server for values of rows that the evaluator scored.

Prints JSON: rows compared, the model's version, the only tensor and the largest difference.
"""

import http.client
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

SAMPLE = 100


def main(host: str, report: str, manifest: str) -> None:
    scores = pq.read_table(Path(report) / "scores.parquet").to_pylist()[:SAMPLE]
    rows = pq.read_table(Path(manifest) / "holdout.parquet").to_pylist()
    answer = ask(host, [rows[one["row"]] for one in scores])
    (value,) = answer["outputs"]
    pairs = zip(value["data"], scores, strict=True)
    print(
        json.dumps(
            {
                "rows": len(scores),
                "version": answer["model_version"],
                "tensor": [value["name"], value["datatype"], value["shape"]],
                "difference": max(abs(found - one["candidate"][0]) for found, one in pairs),
            }
        )
    )


def ask(host: str, rows: list[dict]) -> dict:
    inputs = [
        {
            "name": name,
            "shape": [len(rows)],
            "datatype": "BYTES",
            "data": [row[name] for row in rows],
        }
        for name in ("text", "text_pair")
    ]
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("POST", "/v2/models/recommender/infer", json.dumps({"inputs": inputs}))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


main(*sys.argv[1:])
