"""The page on local runs can be followed line by line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from docs.pages import commands
from trainer.local.conftest import deliver


def test_the_page_can_be_followed(tmp_path, minilm):
    for month in (1, 2, 3):
        deliver(tmp_path / "data", month, rows=220)
    shutil.copytree(minilm, tmp_path / "minilm")
    lines = [
        *commands("docs/how-to/try-a-recipe.md", "init"),
        *commands("docs/how-to/try-a-recipe.md", "run"),
    ]
    program = f'springtide-trainer() {{ "{sys.executable}" -m springtide_trainer "$@"; }}'

    done = subprocess.run(
        ["bash", "-euc", "\n".join([program, *lines])],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode in {0, 1}, done.stdout + done.stderr
    assert "report: springtide/shop/recommender/reports/" in done.stdout
