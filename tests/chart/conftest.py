"""Renders the chart as `helm template` does."""

import subprocess
from collections.abc import Callable

import pytest
from chart.strict_yaml import load_all
from local_cluster.places import REPOSITORY, program

CHART = REPOSITORY / "charts" / "springtide"
Render = Callable[..., list[dict]]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("helm"), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="session")
def render() -> Render:
    def rendered(*settings: str) -> list[dict]:
        flags = [flag for setting in settings for flag in ("--set", setting)]
        done = helm("template", "springtide", str(CHART), "--namespace", "tides", *flags)
        assert done.returncode == 0, done.stderr
        return load_all(done.stdout)

    return rendered


@pytest.fixture(scope="session")
def refusal() -> Callable[[str], str]:
    def refused(setting: str) -> str:
        done = helm("template", "springtide", str(CHART), "--set", setting)
        assert done.returncode != 0, f"{setting} was taken"
        return done.stderr

    return refused


@pytest.fixture(scope="session")
def lint() -> subprocess.CompletedProcess[str]:
    return helm("lint", str(CHART), "--strict")
