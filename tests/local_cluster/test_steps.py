from pathlib import Path

import pytest
from local_cluster import steps
from local_cluster.steps import SetupError, Step, execute, run_lanes


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LOGS", tmp_path / "log")


def test_an_installed_part_is_not_made_again() -> None:
    made: list[str] = []

    run_lanes([[Step("there", lambda: "", lambda: made.append("there"))]])

    assert made == []


def test_a_missing_part_is_printed_and_made(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[str] = []

    run_lanes([[Step("venv", lambda: "installs packages", lambda: made.append("venv"))]])

    assert made == ["venv"]
    assert "venv: installs packages" in capsys.readouterr().err


def test_after_a_failure_its_lane_ends_and_the_error_is_raised() -> None:
    made: list[str] = []

    def fail() -> None:
        raise SetupError("no disk")

    failing = Step("image", lambda: "builds", fail)
    following = Step("push", lambda: "pushes", lambda: made.append("push"))
    with pytest.raises(SetupError, match="no disk"):
        run_lanes([[failing, following]])

    assert made == []


def test_a_failed_command_is_one_sentence_with_its_last_line(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo first; echo 'E: no space left'; exit 1"]

    with pytest.raises(SetupError, match=r"^apt failed \(E: no space left\); see .*apt\.log$"):
        execute("apt", command, cwd=tmp_path)


def test_a_network_that_does_not_answer_is_named_as_the_cause(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo 'Temporary failure resolving the host'; exit 100"]

    with pytest.raises(SetupError, match="apt needs the network"):
        execute("apt", command, cwd=tmp_path)
