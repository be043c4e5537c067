from pathlib import Path

import pytest
from local_cluster import images
from local_cluster.images import TRAINER


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(images, "REPOSITORY", tmp_path)
    for folder in ("operator", "trainer_image", "requirements"):
        (tmp_path / folder).mkdir()
    for file in ("pyproject.toml", "README.md", "LICENSE", "trainer_image/Dockerfile"):
        (tmp_path / file).write_text(file)
    for file in ("trainer.txt", "build.txt"):
        (tmp_path / "requirements" / file).write_text(file)
    (tmp_path / "operator" / "decide.py").write_text("first")
    return tmp_path


def test_an_image_of_the_same_sources_is_not_built_again(checkout: Path) -> None:
    before = TRAINER.key()
    bytecode = checkout / "operator" / "__pycache__" / "decide.pyc"
    bytecode.parent.mkdir()
    bytecode.write_text("compiled")

    assert TRAINER.key() == before


def test_a_change_of_the_code_keeps_the_layer_of_dependencies(checkout: Path) -> None:
    before, dependencies_before = TRAINER.key(), TRAINER.dependencies_key()

    (checkout / "operator" / "decide.py").write_text("second")

    assert TRAINER.key() != before
    assert TRAINER.dependencies_key() == dependencies_before


def test_a_change_of_the_pins_replaces_the_layer_of_dependencies(checkout: Path) -> None:
    before = TRAINER.dependencies_key()

    (checkout / "requirements" / "trainer.txt").write_text("torch==3")

    assert TRAINER.dependencies_key() != before
