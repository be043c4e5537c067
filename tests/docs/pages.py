"""Reads the documentation: headings, links, and code blocks with the tests that run them.

A block with a line of `make`, `kubectl`, `helm` or `springtide-trainer` has a marker on the line
before it:

    <!-- name: NAME; run by tests/x/test_y.py::test_z -->   that test runs or contains its lines
    <!-- run by PATH -->                                    that file contains or takes its lines
    <!-- example: REASON -->                                no test runs it

A test takes the lines of a named block by `commands("docs/how-to/install.md", "NAME")`, and the
whole block by `script` with the same arguments.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "charts/springtide/README.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
)
SHELL = ("sh", "console", "")
COMMAND = re.compile(r"(make|kubectl|helm|springtide-trainer)( |$)")
MARKER = re.compile(
    r"<!-- (?:name: (?P<name>[a-z-]+); )?(?:run by (?P<by>\S+)|example: (?P<example>.+)) -->"
)


@dataclass(frozen=True)
class Block:
    """One code block of a page."""

    page: str
    line: int
    language: str
    text: str
    name: str = ""
    by: str = ""
    """The test or file that runs its commands."""
    example: str = ""
    """Why no test runs them."""

    @property
    def commands(self) -> list[str]:
        """Its lines of the commands above, continued lines joined."""
        text = re.sub(r"\\\n\s*", "", self.text)
        lines = [line.removeprefix("$ ") for line in text.splitlines()]
        if self.language == "console":
            lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        uncommented = (re.sub(r"\s+# .*$", "", line) for line in lines)
        return [line for line in uncommented if COMMAND.match(line)]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Link:
    """One link of a page."""

    page: str
    line: int
    target: str


def blocks() -> list[Block]:
    """Return all code blocks of all pages."""
    return [block for page in PAGES for block in _blocks(page)]


def commands(page: str, name: str) -> list[str]:
    """Return the commands of the named block of a page."""
    return _named(page, name).commands


def script(page: str, name: str) -> str:
    """Return the text of the named block of a page."""
    return _named(page, name).text


def links(page: str) -> Iterator[Link]:
    """Yield all links and images of a page."""
    for token in _tokens(page):
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                yield Link(page, (token.map or [0])[0] + 1, str(target))


@cache
def anchors(page: str) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    tokens = _tokens(page)
    for number, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        inline = tokens[number + 1].children or []
        text = "".join(child.content for child in inline if child.type in {"text", "code_inline"})
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)


def _named(page: str, name: str) -> Block:
    found = [block for block in _blocks(page) if block.name == name]
    if len(found) != 1:
        raise ValueError(f"{page} has {len(found)} blocks with the name {name}, not one")
    return found[0]


def _blocks(page: str) -> Iterator[Block]:
    marker = ""
    for token in _tokens(page):
        if token.type in {"fence", "code_block"}:
            match = MARKER.fullmatch(marker)
            given = {key: value or "" for key, value in match.groupdict().items()} if match else {}
            line = (token.map or [0])[0] + 1
            yield Block(page, line, token.info.strip(), token.content, **given)
        marker = token.content.strip() if token.type == "html_block" else ""


@cache
def _tokens(page: str) -> list:
    text = (ROOT / page).read_text(encoding="utf-8")
    return MarkdownIt("commonmark").enable("table").parse(text)
