"""Runs in the cluster's network: sends requests without a row, which the server refuses.

Sends RATE a second to HOST until it is ended.
"""

import http.client
import json
import os
import time

HOST, RATE = os.environ["HOST"], float(os.environ["RATE"])
BODY = json.dumps({"inputs": []})


def main() -> None:
    while True:
        connection = http.client.HTTPConnection(HOST, 80, timeout=30)
        try:
            connection.request("POST", "/v2/models/recommender/infer", BODY)
            connection.getresponse().read()
        except OSError:  # a pod that ends at this moment
            pass
        finally:
            connection.close()
        time.sleep(1 / RATE)


main()
