"""Every reason that an object can show has its entry in the documentation.

A reason is a string in CamelCase in the code that writes conditions, Events, verdicts and failures.
What looks like one and is none is listed below with what it is; so a new string needs an entry in
docs/troubleshooting.md or a line here.
"""

import ast
import re
from pathlib import Path

from docs.pages import ROOT

PAGE = ROOT / "docs/troubleshooting.md"
CODE = {
    "operator/springtide_operator/lifecycle": "*.py",
    "operator/springtide_operator/cluster": "actuator.py",
    "operator/springtide_judging": "*.py",
    "trainer_image": "*.py",
}
"""Folders with the files that write reasons."""

WORD = re.compile(r"[A-Z][a-z]+[A-Za-z0-9]*")

NOT_REASONS = {
    *("Ready", "Serving", "DataReady", "LastRunSucceeded", "TargetsInSync", "ActionRequired"),
    *("Stalled", "Live", "True", "False", "Unknown", "Normal", "Warning"),  # conditions, Events
    *("Idle", "Queued", "Training", "Importing", "Evaluating", "Invalid"),  # phases
    *("Import", "Tokenize", "Train", "Evaluate", "Probe", "Rollout", "Head", "Seeded"),  # stages
    *("Decided", "Suspect", "Pass", "Passed", "Reject"),  # of holdouts and rules
    "Bake",  # of comparisons
    *("Hold", "Delete", "Fail", "Required", "Holdout", "Historical", "Guardrail"),  # of the spec
    *("Manual", "Approved", "Enforce", "Observe", "TrainOnly"),  # approval, modes
    *("Schedule", "OnData", "Request", "Recorded", "Refused"),  # triggers, results of requests
    *("AdamW", "Adafactor", "Auto", "Constant", "Cosine", "Linear"),  # hyperparameters
    *(
        "Classification",
        "Regression",
        "Full",
        "LoRA",
        "AdaLoRA",
        "Adapter",
        "PromptTuning",
        "PrefixTuning",
        "Continue",
    ),  # tasks and methods
    *("Ranking", "Listwise", "Pairwise", "Pointwise"),  # a task and its losses
    *("TensorBoard", "WandB"),  # trackers
    *("Entropy", "Margin", "Diverse"),  # strategies of picks
    *("Embedding", "Mean", "First", "Both"),  # a task, its pooling and its towers
    "CausalLM",  # a task
    "MaskedLM",  # a task
    *("Hour", "Day", "Week", "Month"),  # periods
    *("Parquet", "HalveBatch", "SequenceClassification"),  # formats, limits, architectures
    *("Job", "JobSet", "ModelGeneration", "DisruptionTarget"),  # kinds, a condition of pods
    *("ExitCode", "OwnKeysTaken"),  # internal
    *("Admitted", "Deactivated", "Finished", "QuotaReserved"),  # conditions of Workloads
    *("Service", "PodDisruptionBudget", "In", "NotIn", "Exists"),  # kinds, operators of selectors
    *("CreateContainerConfigError", "CreateContainerError"),  # of the kubelet
    *("Missing", "Authorization", "Connection", "DefaultCPUAllocator", "OutOfMemoryError", "Vdj"),
    "PanicException",  # of libraries in Rust
}
COMPOSED = {"RequestAccepted", "RequestRefused", "ExitCode1", "MissingEntity", "MissingGroup"}
"""Made from parts: Request and its result, ExitCode and the code, Missing and the column."""


def test_every_reason_has_an_entry_and_every_entry_is_a_reason():
    words = {word for place in CODE.items() for file in _files(*place) for word in _words(file)}
    reasons, documented = (words - NOT_REASONS) | COMPOSED, _documented()
    assert NOT_REASONS - words == set(), "these are not in the code; remove them here"
    assert reasons - documented == set(), "add them to docs/troubleshooting.md"
    assert documented - reasons == set(), "these entries are no reasons of the code"


def _files(folder: str, pattern: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob(pattern))
    assert found, f"{folder} has no {pattern}; correct CODE"
    return found


def _words(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typed = {id(part) for node in ast.walk(tree) for part in _annotation(node)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in typed
        and WORD.fullmatch(node.value)
    }


def _annotation(node: ast.AST) -> list[ast.AST]:
    """The parts of `Literal[...]`: they name types, and write nothing."""
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        return list(ast.walk(node))
    return []


def _documented() -> set[str]:
    cells = re.findall(r"^\| (`[A-Z][^|]*) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        word
        for cell in cells
        for word in re.findall(r"`([A-Z][A-Za-z0-9]+)`", cell)
        if word != "ExitCode"
    }
