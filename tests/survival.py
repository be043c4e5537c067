"""Writes the page of faults and inputs from the markers of the tests that show them.

A test has `@pytest.mark.survives("area", "fault or input", "result")`, one for each row. The tests
are parsed, not run: `python tests/survival.py`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = "docs/reference/faults.md"

AREAS = {
    "Operator": "The operator ends, hangs, or runs twice.",
    "API server": "The API server is down or slow, refuses requests, or its watches fail.",
    "Jobs and pods": "Training and evaluation are interrupted, get no resources, or are refused.",
    "Queues": "Kueue makes Jobs wait, preempts them, gives them up, or is missing.",
    "Several nodes": "Training on several nodes loses a pod, or the kind JobSet is missing.",
    "Deployments": "Pods do not become ready, and other clients change a target.",
    "Routes": "Other clients change, remove or refuse what splits the requests of a canary.",
    "People": "Objects are edited, deleted and restored during a run.",
    "Rights": "A user asks for what the operator may do and the user may not.",
    "Update": "Invalid manifests: what the API server refuses, and what the operator reports.",
    "Data": "Invalid or late data.",
    "Model": "Invalid, unsafe or damaged models.",
    "Results": "Invalid results of Jobs.",
    "At rest": "The number of writes.",
    "Notifications": "The sink of notifications is down, slow, or refuses them.",
    "Requests": "Requests to the reference server and to the progress endpoint.",
}
"""The sections of the page, in order."""

HEAD = """# Faults and inputs

Each row has a fault or an input, the result, and the test that shows it. Generated from the markers
of the tests by `make generate`. Tests with ◦ take many minutes and run in `make test-faults`, all
others in `make test`.

"Our variables" are `MODEL_URI` and `MODEL_DIGEST`, "our fields" all that the operator applies to
a Deployment ([list](../how-to/own-server.md#what-the-deployment-gets)).
"""


@dataclass(frozen=True, order=True)
class Row:
    """One marker of one test."""

    area: str
    fault: str
    result: str
    test: str
    long: bool


def rows(folder: Path = ROOT / "tests") -> list[Row]:
    """Read all markers below a folder.

    Raises:
        ValueError: a marker has not three texts, or an area that is not in `AREAS`.
    """
    return sorted(row for file in sorted(folder.rglob("test_*.py")) for row in _of_file(file))


def page() -> str:
    """Return the page as Markdown."""
    found = rows()
    parts = [HEAD]
    for area, about in AREAS.items():
        of_area = [row for row in found if row.area == area]
        if of_area:
            lines = "\n".join(map(_line, of_area))
            parts.append(
                f"## {area}\n\n{about}\n\n| fault or input | result | test |\n"
                f"|---|---|---|\n{lines}\n"
            )
    return "\n".join(parts)


def _line(row: Row) -> str:
    fault, result = (text.replace("|", "\\|") for text in (row.fault, row.result))
    return f"| {fault} | {result} | `{row.test}`{' ◦' if row.long else ''} |"


def _of_file(file: Path) -> Iterator[Row]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    long = any(
        isinstance(node, ast.Assign)
        and "pytestmark" in ast.unparse(node.targets[0])
        and "mark.faults" in ast.unparse(node.value)
        for node in tree.body
    )
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _of_test(file, node, long)


def _of_test(file: Path, test: ast.FunctionDef | ast.AsyncFunctionDef, long: bool) -> Iterator[Row]:
    name = f"{file.relative_to(ROOT / 'tests')}::{test.name}"
    long = long or any("mark.faults" in ast.unparse(mark) for mark in test.decorator_list)
    for mark in test.decorator_list:
        if not (isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.survives"):
            continue
        given = [ast.literal_eval(each) for each in mark.args]
        if len(given) != 3 or given[0] not in AREAS:
            raise ValueError(f"{name}: survives() takes an area of {list(AREAS)}, fault, result")
        yield Row(*given, test=name, long=long)


def main() -> None:
    """Write the page into the checkout."""
    text = page()
    (ROOT / PAGE).write_text(text, encoding="utf-8")
    print(f"{PAGE}: {len(rows())} rows")


if __name__ == "__main__":
    main()
