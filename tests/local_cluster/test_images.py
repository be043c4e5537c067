import json
from pathlib import Path

import pytest
from local_cluster import images, project_images
from local_cluster.project_images import KSERVE, PACKAGES, TRAINER


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(project_images, "REPOSITORY", tmp_path)
    for folder in ("operator", "trainer_image", "requirements", "examples/kserve"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("pyproject.toml", "README.md", "LICENSE", "trainer_image/Dockerfile"):
        (tmp_path / file).write_text(file)
    for file in ("trainer.txt", "build.txt"):
        (tmp_path / "requirements" / file).write_text(file)
    for file in ("Containerfile", "requirements.txt", "server.py"):
        (tmp_path / "examples" / "kserve" / file).write_text(file)
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


def test_the_server_of_others_is_built_again_only_for_its_own_code_or_the_pins(
    checkout: Path,
) -> None:
    before = KSERVE.key()

    (checkout / "operator" / "decide.py").write_text("second")
    assert KSERVE.key() == before
    (checkout / "examples" / "kserve" / "server.py").write_text("second")
    changed = KSERVE.key()
    (checkout / "requirements" / "trainer.txt").write_text("torch==3")

    assert len({before, changed, KSERVE.key()}) == 3
    assert PACKAGES.dependencies_key() in KSERVE.dependencies_key()


@pytest.mark.parametrize("with_environment", [True, False])
def test_wheels_are_kept_only_where_a_virtual_environment_shares_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_environment: bool
) -> None:
    monkeypatch.setattr(images, "IMAGES", tmp_path / "images")
    monkeypatch.setattr(images, "VENV", tmp_path / "venv")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    if with_environment:
        (tmp_path / "venv").mkdir()

    with images._wheels() as cache:
        (cache / "torch.whl").write_text("wheel")

    assert (tmp_path / "uv" / "torch.whl").exists() == with_environment
    assert cache.exists() == with_environment


def test_only_a_registry_on_this_machine_is_used_without_tls() -> None:
    assert images.is_local("localhost:5000/springtide-operator:0.1.0")
    assert images.is_local("127.0.0.1/springtide-operator:0.1.0")
    assert not images.is_local("registry.example/localhost/springtide-operator:0.1.0")
    assert not images.is_local("localhost.example/springtide-operator:0.1.0")


def test_only_the_layers_of_images_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "IMAGES", tmp_path)
    store = tmp_path / "store"
    for name, entries in (
        (
            "overlay-layers/layers",
            [{"id": "base"}, {"id": "top", "parent": "base"}, {"id": "work"}],
        ),
        ("overlay-containers/containers", [{"id": "container", "layer": "work"}]),
    ):
        file = store / f"{name}.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(entries))

    assert images._layers() == [store / "overlay/base/diff", store / "overlay/top/diff"]
