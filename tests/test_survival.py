"""The page of faults and inputs is generated from the markers of the tests."""

import pytest
import survival


def test_the_page_of_faults_is_up_to_date():
    page = (survival.ROOT / survival.PAGE).read_text(encoding="utf-8")
    assert page == survival.page(), "run make generate"


def test_a_marker_of_an_unknown_area_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(survival, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_it.py").write_text(
        '@pytest.mark.survives("Weather", "rain", "dry")\ndef test_it():\n    pass\n'
    )
    with pytest.raises(ValueError, match=r"test_it.py::test_it: survives\(\) takes an area"):
        survival.rows(tmp_path / "tests")
