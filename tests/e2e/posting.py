"""Runs in the cluster's network: sends the bodies of its standard input, one after the other.

Prints JSON: of each answer its status, the type of its content and its text.
"""

import http.client
import json
import sys


def main(host: str, path: str) -> None:
    answers = []
    for body in json.load(sys.stdin):
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        text = answer.read().decode()
        answers.append((answer.status, answer.headers.get_content_type(), text))
        connection.close()
    print(json.dumps(answers))


main(*sys.argv[1:])
