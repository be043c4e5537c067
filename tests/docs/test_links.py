"""Every relative link of the documentation leads to a file and a heading that exist."""

import re

import pytest
from docs.pages import PAGES, ROOT, anchors, links


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_and_anchor_resolves(page):
    broken = []
    for link in links(page):
        path, _, anchor = link.target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not target.exists():
            broken.append(f"line {link.line}: {link.target} does not exist")
        elif anchor and anchor not in anchors(str(target.relative_to(ROOT))):
            broken.append(f"line {link.line}: {link.target} names no heading")
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_of_the_repository_that_a_page_names_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])(?:tests|examples|operator|trainer_image)/[\w./-]*", text)
    paths = {path.partition("::")[0].rstrip(".") for path in named}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_page_can_be_reached_from_the_readme():
    known, waiting = {"README.md"}, ["README.md"]
    while waiting:
        page = waiting.pop()
        for link in links(page):
            path = link.target.partition("#")[0]
            target = ((ROOT / page).parent / path).resolve()
            if path.endswith(".md") and "://" not in path and target.is_relative_to(ROOT):
                name = str(target.relative_to(ROOT))
                if name not in known:
                    known.add(name)
                    waiting.append(name)
    assert set(PAGES) - known == set()


def test_no_page_or_message_installs_from_an_index_a_package_that_is_not_published():
    code = [file for root in ("operator", "trainer_image") for file in (ROOT / root).rglob("*.py")]
    wrong = re.compile(r"pip install [^\n]*(?<![\w/.-])springtide(?:\[|'|$)", re.MULTILINE)
    texts = {file: file.read_text(encoding="utf-8") for file in [*code, *map(ROOT.joinpath, PAGES)]}
    assert [str(file) for file, text in texts.items() if wrong.search(text)] == []


def test_the_map_of_the_code_names_every_package():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = [
        file.parent.relative_to(ROOT)
        for root in ("operator", "trainer_image")
        for file in sorted((ROOT / root).rglob("__init__.py"))
    ]
    missing = [
        str(package)
        for package in packages
        if f"`{package}`" not in text and f"`{package.name}`" not in text
    ]
    assert missing == []


def test_the_readme_has_150_lines_at_most():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
