"""Reserved entities: chosen by hash, the same for ever."""

from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.data.source.reserved_entities import is_reserved, reserved

fractions = st.decimals(0, 1, places=3).map(str)


def test_the_choice_never_changes() -> None:
    chosen = [name for name in map(str, range(100)) if is_reserved(name, "0.05")]
    assert chosen == ["18", "32", "35", "52", "56"]


def test_about_the_wanted_share_is_reserved() -> None:
    assert 430 < sum(reserved(map(str, range(10_000)), "0.05")) < 570


@given(st.text(), fractions, fractions)
def test_a_larger_fraction_only_adds_entities(entity: str, one: str, other: str) -> None:
    small, large = sorted((one, other), key=float)
    assert is_reserved(entity, large) or not is_reserved(entity, small)


def test_nobody_and_everybody_can_be_reserved() -> None:
    assert not any(reserved("abc", "0"))
    assert all(reserved("abc", "1.0"))
