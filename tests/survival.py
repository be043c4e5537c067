"""Writes the page of what the product survives from the marks of the tests that prove it.

A test says so by `@pytest.mark.survives("area", "fault or input", "what holds")`, several times
where it shows several things. The tests are read, not run: `python tests/survival.py`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = "docs/reference/faults.md"

AREAS = {
    "Operator": "The operator dies, hangs or is not alone.",
    "API server": "The API server is away, slow, refuses, or its watches lie.",
    "Jobs and pods": "Training and evaluation are interrupted, starved or refused.",
    "Deployments": "Pods do not get ready, and other hands change what is served.",
    "People": "Objects are edited, deleted and restored at the wrong moment.",
    "Rights": "A user writes what the operator would do with rights that the user lacks.",
    "Update": "What the API server refuses in a manifest, and what the operator does.",
    "Data": "What arrives as data.",
    "Model": "What is given as a model.",
    "Results": "What a Job hands back.",
    "At rest": "What is written while nothing, or little, happens.",
    "Requests": "What a client sends to the reference server.",
}
"""The sections of the page, in order."""

HEAD = """# What Springtide survives

Every row is a fault or an input, what must hold, and the test that shows it. Generated from the
marks of the tests by `make generate`. Tests marked ◦ take many minutes and run by
`make test-faults`, all others by `make test`.
"""


@dataclass(frozen=True, order=True)
class Row:
    """One mark of one test."""

    area: str
    fault: str
    promise: str
    test: str
    long: bool


def rows(folder: Path = ROOT / "tests") -> list[Row]:
    """Read all marks below a folder.

    Raises:
        ValueError: a mark is not three texts, or its area is none of `AREAS`.
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
                f"## {area}\n\n{about}\n\n| fault or input | what holds | shown by |\n"
                f"|---|---|---|\n{lines}\n"
            )
    return "\n".join(parts)


def _line(row: Row) -> str:
    fault, promise = (text.replace("|", "\\|") for text in (row.fault, row.promise))
    return f"| {fault} | {promise} | `{row.test}`{' ◦' if row.long else ''} |"


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
        said = [ast.literal_eval(each) for each in mark.args]
        if len(said) != 3 or said[0] not in AREAS:
            raise ValueError(f"{name}: survives() takes an area of {list(AREAS)}, fault, promise")
        yield Row(*said, test=name, long=long)


def main() -> None:
    """Write the page into the checkout."""
    text = page()
    (ROOT / PAGE).write_text(text, encoding="utf-8")
    print(f"{PAGE}: {len(rows())} rows")


if __name__ == "__main__":
    main()
