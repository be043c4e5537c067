"""Reserved entities are selected by a stable hash."""

from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.data.source.reserved_entities import is_reserved, reserved

fractions = st.decimals(0, 1, places=3).map(str)


def test_the_reserved_entities_never_change() -> None:
    chosen = [name for name in map(str, range(100)) if is_reserved(name, "0.05")]
    assert chosen == ["18", "32", "35", "52", "56"]


def test_the_share_of_reserved_entities_is_about_the_fraction() -> None:
    assert 430 < sum(reserved(map(str, range(10_000)), "0.05")) < 570


@given(st.text(), fractions, fractions)
def test_a_larger_fraction_only_adds_entities(entity: str, one: str, other: str) -> None:
    small, large = sorted((one, other), key=float)
    assert is_reserved(entity, large) or not is_reserved(entity, small)


def test_fractions_0_and_1_reserve_no_and_all_entities() -> None:
    assert not any(reserved("abc", "0"))
    assert all(reserved("abc", "1.0"))
