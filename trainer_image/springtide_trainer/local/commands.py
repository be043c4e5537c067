"""The command line `springtide-trainer`: `run`, `tune`, `pick` and `init`.

Exit codes: 0 accepted or found, 1 rejected, inconclusive or nothing found, 2 wrong arguments, 3 to
75 as the pods of the stages (`ExitCode`), 70 an unexpected error, 130 and 143 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Interrupted, Refused
from springtide_trainer.local import gate_table, picking, starting, tuning
from springtide_trainer.local.display import display
from springtide_trainer.local.lineage import Generations
from springtide_trainer.local.manifest_file import InvalidManifest, read
from springtide_trainer.local.opening import (
    INTERRUPTED,
    TERMINATED,
    UNEXPECTED_ERROR,
    add_places,
    on_folder,
    places,
    stage_failed,
)
from springtide_trainer.local.validation import cel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.local.display import Display
    from springtide_trainer.local.manifest_file import LocalRecipe
    from springtide_trainer.storage import Home

NOT_ACCEPTED = 1


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.command(given))
    except InvalidManifest as invalid:
        print(invalid, file=sys.stderr)
        return ExitCode.INVALID_INPUT
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        return refused.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # Python would end with 1, the code of a verdict
        traceback.print_exc()
        return UNEXPECTED_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="springtide-trainer",
        description="Try the recipe of an IncrementalUpdate, write one, or pick rows to label.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="import, probe, train, evaluate and judge on this machine"
    )
    run.set_defaults(command=_run)
    add_places(run)
    tuning.add_command(commands)
    starting.add_command(commands)
    picking.add_command(commands)
    return parser


def _run(given: argparse.Namespace) -> int:
    """Take a recipe to a verdict on this machine."""
    asked, shown = read(given.manifest, places(given)), display()
    if cel is None:
        shown.line(
            "rules between fields are not checked; in a checkout of the repository: "
            "pip install '.[trainer,cli]'"
        )
    return on_folder(
        asked, given.storage, shown, lambda home: _take_window(given, asked, home, shown)
    )


def _take_window(given: argparse.Namespace, asked: LocalRecipe, home: Home, shown: Display) -> int:
    from springtide_trainer.local.local_stages import StageFailed
    from springtide_trainer.local.run import LocalRun, NoRun, Request

    local = LocalRun(asked, home, shown, Request.of(given), Generations.read(home.path))
    try:
        generation, repeated = local.run()
    except NoRun as none:
        left = (
            "; the newest partitions are left to the next run of the cluster (--through reads them)"
        )
        held = "" if given.through else left
        shown.line(f"no run, {none.reason}: {none}{held}")
        return ExitCode.TOO_LITTLE_DATA
    except StageFailed as failed:
        return stage_failed(failed, home, shown)
    except Interrupted:
        shown.line("interrupted; the same command continues")
        return TERMINATED
    gate_table.show(generation, shown, repeated=repeated)
    return 0 if generation.verdict == "Accepted" else NOT_ACCEPTED
