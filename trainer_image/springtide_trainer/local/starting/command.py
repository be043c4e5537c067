"""`springtide-trainer init`: a manifest from a recipe, or from a model and data.

The text is written as a person would, with comments; what was guessed is marked.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from springtide_api.contract import ExitCode
from springtide_api.objects import Problem
from springtide_trainer.errors import Refused
from springtide_trainer.local import kubectl_yaml, manifest_file
from springtide_trainer.local.starting.source_guess import guess
from springtide_trainer.local.starting.task_guess import UNKNOWN, guess_task
from springtide_trainer.local.validation import problems

if TYPE_CHECKING:
    import argparse

    from springtide_trainer.local.starting.source_guess import Guess

FIELDS = {
    "text": "the text of an example",
    "textPair": "its second text; remove it if there is none",
    "label": "what is predicted",
    "timestamp": "the time of the event, UTC without a zone",
    "entity": "rows of one customer or query depend on each other",
    "group": "rows that were shown together, for ndcg@k",
}
MISSING = ("text", "label", "timestamp")
"""Columns that a manifest needs; `CHANGE-ME-<field>` stands for one that was not found."""

TEMPLATE = """\
# Try it without a cluster: springtide-trainer run FILE --data PATH --model PATH
apiVersion: springtide.dev/v1alpha1
kind: IncrementalUpdate
metadata:
  name: {name}
  namespace: {namespace}
spec:
  model:
    # {model_note}
    initial:
      uri: file:///models/{model}
    # {task_note}
    {task}
    maxLength: {max_length}

  data:
    source:
      # The claim {data_claim} is mounted at /data: copy {data} to it.
      uri: file:///data{file}
      format: {format}
      partition:
        period: {period}{path}
      columns:
{columns}
    window:
      # A run starts only with this many new rows.
      minRows: 200
    holdout:
      # The newest partition judges; it is trained on by the next run.
      strategy:
        type: LatestPartitions
        latestPartitions:
          partitions: 1
    volume:
      claimName: {data_claim}

  # Look for new data every 30 minutes.
  trigger:
    onData: {{}}

  training:
    hyperparameters:
      epochs: 1
{learning_rate}
  gate:
    rules:
      # Good enough to be served, by the lower confidence bound.
      - name: useful
        metric: {metric}
        min: "{floor}"
      # Not worse than the live model.
      - name: as-good-as-live
        metric: {metric}
        maxRegression:
          absolute: "0.01"
"""
CLUSTER = """\

  rollout:
    targets:
      # The Deployment that serves the model.
      - targetRef:
          name: {deployment}
        container: {container}
"""
STORAGE = """\

  storage:
    # The serving Deployment mounts this claim at the same path.
    uri: file:///models
    volume:
      claimName: {claim}
"""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `init` and its arguments."""
    parser = commands.add_parser("init", help="write a manifest from a recipe, or from data")
    parser.set_defaults(command=init, parser=parser)
    parser.add_argument(
        "recipe", type=Path, nargs="?", help="a recipe that lacks rollout or storage"
    )
    parser.add_argument("--model", type=Path, help="folder of the model, for a starter recipe")
    parser.add_argument(
        "--data", type=Path, help="file or folder of the data, for a starter recipe"
    )
    parser.add_argument("--name", default="recommender", help="name of the update")
    parser.add_argument("--namespace", default="default", help="namespace of the update")
    parser.add_argument("--deployment", help="Deployment that serves the model; default: the name")
    parser.add_argument("--container", default="server", help="its container; default server")
    parser.add_argument("--claim", default="models", help="claim of the models; default models")
    parser.add_argument("--data-claim", default="data", help="claim of the data; default data")
    parser.add_argument("--output", type=Path, help="file to write; default: standard output")


def init(given: argparse.Namespace) -> int:
    """Write a manifest that the API server accepts.

    Raises:
        Refused: arguments contradict each other, or data or model cannot be read.
        InvalidManifest: the recipe is invalid, or what was made of it.
    """
    if bool(given.recipe) == bool(given.model and given.data):
        given.parser.error("give either a recipe, or --model and --data for a starter recipe")
    text = _completed(given) if given.recipe else _started(given)
    path = given.recipe or given.output or Path("standard output")
    if found := problems(yaml.load(text, kubectl_yaml.Loader)):
        raise manifest_file.InvalidManifest(path, found)
    if given.output is None:
        print(text, end="")
        return 0
    try:
        with given.output.open("x", encoding="utf-8") as out:
            out.write(text)
    except OSError as taken:
        message = f"{given.output}: {taken.strerror}; name another file"
        code = ExitCode.ENVIRONMENT
        raise Refused("NoAccess", message, "--output", code) from taken
    print(f"wrote {given.output}; next: {_command(given)}", file=sys.stderr)
    return 0


def _completed(given: argparse.Namespace) -> str:
    """Add the blocks that a recipe lacks, and keep its text and comments."""
    manifest = manifest_file.load(given.recipe)
    deployment = given.deployment or manifest["metadata"]["name"]
    added, wanted = "", {**manifest, "spec": dict(manifest["spec"])}
    for name, block in (("rollout", CLUSTER), ("storage", STORAGE)):
        if name not in manifest["spec"]:
            part = block.format(deployment=deployment, container=given.container, claim=given.claim)
            added += part
            wanted["spec"] |= yaml.load(part, kubectl_yaml.Loader)
    if not added:
        problem = Problem("spec", "rollout and storage are set; the manifest is complete")
        raise manifest_file.InvalidManifest(given.recipe, [problem])
    text: str = given.recipe.read_text(encoding="utf-8").rstrip("\n") + "\n" + added
    try:
        if yaml.load(text, kubectl_yaml.Loader) == wanted:
            return text
    except yaml.YAMLError:
        pass  # spec is not the last block, or is indented in another way
    return kubectl_yaml.dump(wanted)


def _started(given: argparse.Namespace) -> str:
    """Write a starter recipe for a model and data."""
    if not given.data.exists():
        raise Refused("DataNotFound", f"{given.data} does not exist", "--data")
    config, found = _config(given.model), guess(given.data)
    task, trained = guess_task(config, found)
    text = TEMPLATE.format(
        **task,
        name=given.name,
        namespace=given.namespace,
        model=given.model.resolve().name.replace(" ", "-"),
        model_note="It has a trained head." if trained else "It gets a new head at import.",
        max_length=min(128, int(config.get("max_position_embeddings") or 128)),
        data=given.data,
        data_claim=given.data_claim,
        file=f"/{given.data.name.replace(' ', '-')}" if given.data.is_file() else "",
        format=found.format,
        period=found.period,
        path=_partition(found),
        columns=_columns(found),
        learning_rate=_learning_rate(trained=trained),
    )
    deployment = given.deployment or given.name
    text += CLUSTER.format(deployment=deployment, container=given.container)
    return text + STORAGE.format(claim=given.claim)


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "config.json").read_bytes()))
    except (OSError, ValueError, TypeError) as wrong:
        message = f"{folder}/config.json cannot be read: {wrong}; give a Hugging Face folder"
        raise Refused("MissingModel", message, "--model") from wrong


def _partition(found: Guess) -> str:
    if found.path is None:
        return "  # rows are divided by their timestamp"
    marker = "\n        successMarker: true" if found.marked else ""
    return f"\n        path: {json.dumps(found.path)}{marker}"


def _columns(found: Guess) -> str:
    """Return the columns with a comment each, and the others of the file."""
    lines = []
    for field, meaning in FIELDS.items():
        if column := found.columns.get(field):
            lines.append(f"{field}: {json.dumps(column, ensure_ascii=False)}  # guessed: {meaning}")
        elif field in MISSING:
            lines.append(f"{field}: {UNKNOWN}-{field}  # not found: {meaning}")
        else:
            lines.append(f"# {field}: {meaning}")
    others = [name for name in found.names if name not in found.columns.values()]
    if others:
        lines.append(f"# Other columns: {', '.join(others)}".replace("\n", " "))
    return "\n".join(" " * 8 + line for line in lines)


def _learning_rate(*, trained: bool) -> str:
    if trained:
        return ""
    note = "# High, because the head is new; the default suits a model that is trained already."
    return f'      {note}\n      learningRate: "1e-4"\n'


def _command(given: argparse.Namespace) -> str:
    """Return the command that tries the manifest."""
    options = (("--data", given.data), ("--model", given.model))
    paths = [str(each) for option in options if option[1] is not None for each in option]
    return shlex.join(["springtide-trainer", "run", str(given.output or "update.yaml"), *paths])
