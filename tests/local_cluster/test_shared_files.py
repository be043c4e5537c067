import os
from pathlib import Path

import pytest
from local_cluster import shared_files

CONTENT = bytes(range(256)) * (shared_files.LARGE // 256)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    return written(tmp_path / "venv/lib/libcuda.so")


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    return written(tmp_path / "layer/venv/lib/libcuda.so")


def written(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def share(environment: Path, layer: Path, scratch: Path) -> None:
    shared_files.share([environment.parent], [layer.parent], scratch=scratch)


def test_an_equal_large_file_becomes_a_link_whenever_it_was_written(
    environment: Path, layer: Path, scratch: Path
) -> None:
    os.utime(layer, (1, 1))

    share(environment, layer, scratch)

    assert layer.samefile(environment)
    assert layer.read_bytes() == CONTENT
    assert list(scratch.iterdir()) == []


def test_a_second_call_changes_nothing(environment: Path, layer: Path, scratch: Path) -> None:
    share(environment, layer, scratch)
    before = layer.parent.stat()

    share(environment, layer, scratch)

    assert layer.parent.stat().st_mtime_ns == before.st_mtime_ns
    assert environment.stat().st_nlink == 2


def test_another_content_of_the_same_length_stays(
    environment: Path, layer: Path, scratch: Path
) -> None:
    layer.write_bytes(CONTENT[:-1] + b"!")

    share(environment, layer, scratch)

    assert layer.read_bytes() == CONTENT[:-1] + b"!"
    assert environment.read_bytes() == CONTENT


def test_another_mode_stays(environment: Path, layer: Path, scratch: Path) -> None:
    layer.chmod(0o755)

    share(environment, layer, scratch)

    assert layer.stat().st_mode & 0o777 == 0o755
    assert not layer.samefile(environment)


@pytest.mark.parametrize(
    ("name", "content"),
    [("small.so", CONTENT[1:]), ("source.py", CONTENT)],
    ids=["small", "source"],
)
def test_small_files_and_python_sources_stay(
    tmp_path: Path, scratch: Path, name: str, content: bytes
) -> None:
    environment = written(tmp_path / "venv" / name, content)
    layer = written(tmp_path / "layer" / name, content)

    share(environment, layer, scratch)

    assert not layer.samefile(environment)


def test_a_symbolic_link_stays(environment: Path, tmp_path: Path, scratch: Path) -> None:
    layer = tmp_path / "layer" / environment.name
    layer.parent.mkdir()
    layer.symlink_to(environment)

    share(environment, layer, scratch)

    assert layer.is_symlink()


def test_what_replaces_the_original_leaves_the_link_as_it_is(
    environment: Path, layer: Path, scratch: Path
) -> None:
    share(environment, layer, scratch)

    environment.unlink()
    environment.write_bytes(b"an update")

    assert layer.read_bytes() == CONTENT
