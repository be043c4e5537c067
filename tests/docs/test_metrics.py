"""Every metric has its line in the documentation, and the documentation names no other."""

import re

from docs.pages import ROOT

PAGE = ROOT / "docs/operations.md"
DEFINED = re.compile(r'(?:Counter|Gauge|Histogram|gauges?|UpdateMetric)\(\s*"(springtide_[a-z_]+)"')
CODE = ("operator/springtide_operator", "trainer_image/springtide_server")


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
