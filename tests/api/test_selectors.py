"""Selectors of counters: what is refused before Prometheus is asked."""

import pytest
from pydantic import ValidationError

from springtide_api.update.analysis import Ratio

SIDE = 'generation="{{generation}}"'


def ratio(selector: str) -> Ratio:
    return Ratio.model_validate({"bad": selector, "total": selector, "maxRegression": "0.005"})


@pytest.mark.parametrize(
    "selector",
    [
        f"http_requests_total{{{SIDE}}}",
        f'http_requests_total{{code=~"5..|4[0-9]{{2}}",{SIDE}}}',
        f" job:errors:sum {{\n  path!~`/a(b)[c]`, {SIDE},\n}}\n",
        f"{{__name__='http_requests_total',{SIDE}}}",
        'x{role="{{role}}",namespace="{{namespace}}",pod=~"({{target}})-.*"}',
        rf'x{{path="a\"b(c)[5m]",{SIDE}}}',
    ],
)
def test_a_selector_is_a_name_with_labels_or_labels_alone(selector: str) -> None:
    assert ratio(selector).bad == selector


@pytest.mark.parametrize(
    "selector",
    [
        f"rate(x{{{SIDE}}}[5m])",
        f"x{{{SIDE}}}[5m]",
        f"x{{{SIDE}}} offset 5m",
        f"x{{{SIDE}}} + x{{{SIDE}}}",
        f"sum(x{{{SIDE}}})",
        f'x{{{SIDE}}} or vector(0){{a="{SIDE}"}}',
        f'x{{code="5,{SIDE}}}',
        f"x{{{SIDE}}}}}",
        f"x y{{{SIDE}}}",
        "x{generation={{generation}}}",
        "x{{generation}}",
        f"1x{{{SIDE}}}",
        "",
        f"x{{a='{'b' * 512}',{SIDE}}}",
    ],
)
def test_functions_ranges_and_other_expressions_are_refused(selector: str) -> None:
    with pytest.raises(ValidationError):
        ratio(selector)


def test_a_selector_that_selects_no_side_is_refused_as_both_sides_would_have_its_counts() -> None:
    with pytest.raises(ValidationError, match="both sides would have the same counts"):
        ratio('x{namespace="{{namespace}}"}')


def test_a_placeholder_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValidationError, match="double braces must name one of"):
        ratio(f'x{{service="{{{{service}}}}",{SIDE}}}')


@pytest.mark.parametrize("allowed", ["-0.1", "1.1", "5", "half"])
def test_an_allowed_regression_is_a_share_from_0_to_1(allowed: str) -> None:
    selector = f"x{{{SIDE}}}"
    with pytest.raises(ValidationError):
        Ratio.model_validate({"bad": selector, "total": selector, "maxRegression": allowed})
