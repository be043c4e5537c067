"""Every metric has its line in the documentation, and the documentation names no other."""

import re

from docs.pages import ROOT

from springtide_operator.update_metrics import METRICS

PAGE = ROOT / "docs/operations.md"
DEFINED = re.compile(r'(?:Counter|Gauge|Histogram|gauges?|UpdateMetric)\(\s*"(springtide_[a-z_]+)"')
CODE = ("operator/springtide_operator", "trainer_image/springtide_server")
LABELLED = re.compile(
    r'(?:Counter|Gauge|Histogram)\(\s*"(springtide_[a-z_]+)",\s*(?:"[^"]*"\s*)+,\s*\[([^\]]+)\]'
)
OF_EACH_KIND = re.compile(r'gauges\(\s*"(springtide_[a-z_]+)"')


def test_every_metric_is_described_and_none_that_does_not_exist():
    defined = {
        name
        for folder in CODE
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name in DEFINED.findall(file.read_text(encoding="utf-8"))
    }
    text = PAGE.read_text(encoding="utf-8")
    named = {name.removesuffix("_total") for name in re.findall(r"springtide_[a-z_]+", text)}
    described = {
        name.removesuffix("_total")
        for name in re.findall(r"^\| `(springtide_[a-z_]+)", text, re.MULTILINE)
    }
    assert described == defined
    assert named <= defined


def test_every_metric_is_described_with_its_labels():
    sources = [
        file.read_text(encoding="utf-8")
        for folder in CODE
        for file in sorted((ROOT / folder).rglob("*.py"))
    ]
    defined = {each.name: ("namespace", "update", *each.labels) for each in METRICS}
    for source in sources:
        found = LABELLED.findall(source)
        defined |= {name: tuple(re.findall(r'"(\w+)"', labels)) for name, labels in found}
        defined |= dict.fromkeys(OF_EACH_KIND.findall(source), ("kind",))
    rows = re.findall(
        r"^\| `(springtide_[a-z_]+)\{([^}]+)\}`", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    described = {name.removesuffix("_total"): tuple(labels.split(", ")) for name, labels in rows}
    assert described == defined
