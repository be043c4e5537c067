"""Imports the initial model: converts a Hugging Face folder to the artifact of generation 0.

The user's folder is checked before anything loads it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError
from transformers import AutoConfig, GenerationConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS,
)
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES as ENCODERS

from springtide_trainer.artifact import manifest, saving
from springtide_trainer.artifact.huggingface_folder import inspect
from springtide_trainer.artifact.length_limit import check_max_length
from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.artifact.padding import choose_side
from springtide_trainer.artifact.preprocess import CAUSAL_LM, MASKED_LM, Preprocess
from springtide_trainer.artifact.tokens import highest_id
from springtide_trainer.errors import Refused
from springtide_trainer.hub.download import download
from springtide_trainer.methods.kept_layers import check_loaded, keep_layers
from springtide_trainer.optimise.form import commit_form
from springtide_trainer.storage import check_storage, local_path
from springtide_trainer.tasks import sequence_head, towers
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language import decoder, masked_encoder
from springtide_trainer.tasks.language.causal_lm import CausalLM
from springtide_trainer.tasks.language.masked_lm import MaskedLM
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from springtide_api.contract import CommittedArtifact, RunFile
    from springtide_api.generation.spec import Recipe
    from springtide_trainer.storage import Home
    from springtide_trainer.tasks.task import Learning, Task

log = logging.getLogger(__name__)

_URI = "spec.model.initial.uri"
SINGLE_LABEL = "single_label_classification"


def import_model(run: RunFile, home: Home, tmp: Path) -> CommittedArtifact:
    """Import the initial model of an update.

    Raises:
        Refused: the folder is unsafe or incomplete, the architecture cannot classify, or labels or
            digest do not match the spec.
    """
    if run.imported is None:
        raise Refused("InvalidRunFile", "stage import needs the block import in run.json")
    check_storage(home)
    source, commit = _source(run.imported.uri, tmp)
    with _named(run.imported.uri if commit else "", source):
        inspect(source, _URI)
        model, task, made = _load(source, run.recipe)
        kept = run.recipe.model.keep_layers
        shortened = kept is not None and keep_layers(model, kept)
        tokenizer = _tokenizer(source, model, run.recipe)
        if isinstance(task, CausalLM):
            # Greedy, and without settings that other versions of the library have other names for.
            model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
    if task.problem_type not in {None, SINGLE_LABEL}:
        # Tells plain transformers how to read the outputs; softmax of one label is its default.
        model.config.problem_type = task.problem_type  # type: ignore[assignment]
    folder = tmp / "artifact"
    saving.save_model(model, folder)
    if isinstance(task, Embedding):
        saving.write_documents(folder, folder)
    saving.save_tokenizer(tokenizer, folder)
    Preprocess.of(run.recipe).model_copy(update=task.kept).write(folder)
    if shortened:
        made = "Seeded"
        check_loaded(model, task, folder)
    del model, tokenizer  # an optimized form needs memory for further copies of the weights
    digest = manifest.write_manifest(folder)
    if run.imported.digest not in {None, digest}:
        raise Refused(
            "DigestMismatch",
            f"{run.imported.uri}{f', commit {commit},' if commit else ''} has digest {digest}, "
            f"expected {run.imported.digest}; restore the folder, or remove model.initial.digest",
            "spec.model.initial.digest",
        )
    log.info("model imported", extra={"digest": digest, "head": made, "commit": commit})
    imported = manifest.commit(folder, home, made).model_copy(update={"commit": commit})
    return commit_form(imported, run.recipe, home, tmp)


def _source(uri: str, tmp: Path) -> tuple[Path, str | None]:
    """Return a folder with the model, and the commit of a hub that it is."""
    if not uri.startswith("hf:"):
        return local_path(uri, _URI), None
    folder = tmp / "hub"
    return folder, download(uri, folder, _URI)


@contextmanager
def _named(uri: str, folder: Path) -> Iterator[None]:
    """Name what was downloaded by its URI in refusals, not by its copy; an empty URI does not."""
    try:
        yield
    except Refused as refused:
        if not uri:
            raise
        failure = refused.failure
        message = failure.message.replace(str(folder), uri)
        raise Refused(failure.reason, message, failure.field, refused.code) from refused


def _load(
    source: Path, recipe: Recipe
) -> tuple[PreTrainedModel, Task, Literal["Trained", "Seeded"]]:
    task = task_of(recipe.model)
    config = _checked_config(source, task)
    if isinstance(task, Embedding):
        model, task = _load_encoder(source, task)
        return model, task, "Trained"
    if isinstance(task, CausalLM):
        return _load_decoder(source), task, "Trained"
    if isinstance(task, MaskedLM):
        model, made = _load_masked(source, recipe.training.hyperparameters.seed)
        return model, task, made
    size = _head_size(config, task)
    with _loading(source):
        model, report = _load_with_report(source, size)
    _check_finite(model, source)
    new = _new_parameters(model, report, source)
    if new:
        if size < len(task.outputs):  # the names of a head that is not there
            model, report = _load_with_report(source, len(task.outputs))
            new = _new_parameters(model, report, source)
        sequence_head.seed(model, new, recipe.training.hyperparameters.seed)
        sequence_head.name_labels(model, task.outputs)
        return model, task, "Seeded"
    return model, task.adopt(model, source), "Trained"


def _load_encoder(source: Path, task: Embedding) -> tuple[PreTrainedModel, Embedding]:
    """Load an encoder without a head: it is trained, and its vectors are those of a live index."""
    towers.check_pooling(source, task.options.vectors.pooling)
    pooling = task.options.vectors.pooling
    with _loading(source):
        model, report = towers.load(source, pooling, output_loading_info=True)
    _check_finite(model.eval(), source)
    _check_complete(model, report, source, "encoder")
    return model, task.adopt(model, source)


def _load_decoder(source: Path) -> PreTrainedModel:
    """Load a decoder with the head of its language model, which is trained."""
    with _loading(source):
        model, report = decoder.load(source, output_loading_info=True)
    _check_finite(model.eval(), source)
    _check_complete(model, report, source, "decoder")
    loaded: PreTrainedModel = model
    return loaded


def _load_masked(source: Path, seed: int) -> tuple[PreTrainedModel, Literal["Trained", "Seeded"]]:
    """Load an encoder with the head of a masked language model: a new one where it has none."""
    with _loading(source):
        model, report = masked_encoder.load(source, output_loading_info=True)
    _check_finite(model.eval(), source)
    new = _new_parameters(model, report, source)
    sequence_head.seed(model, new, seed)
    return model, "Seeded" if new else "Trained"


def _check_complete(
    model: PreTrainedModel, report: dict[str, Any], source: Path, part: str
) -> None:
    """Refuse a model of which a weight is missing, or has another shape."""
    known = dict(model.named_parameters()).keys()
    mismatched = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    if lost := sorted({*report["missing_keys"], *mismatched} & known):
        raise _lost(lost, source, part)


@contextmanager
def _loading(source: Path) -> Iterator[None]:
    """Refuse a model that cannot be loaded."""
    try:
        yield
    except (SafetensorError, RuntimeError, OSError, ValueError) as wrong:
        message = f"{source} cannot be loaded: {wrong}; copy it again"
        raise Refused("InvalidModel", message, _URI) from wrong


def _lost(lost: Sequence[str], source: Path, part: str = "encoder") -> Refused:
    return Refused(
        "InvalidModel",
        f"{source}: {len(lost)} weights of the {part} are missing, such as {lost[0]}; copy "
        "the whole folder",
        _URI,
    )


def _checked_config(source: Path, task: Learning) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            source, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, TypeError, OSError) as wrong:
        message = f"{source}/config.json: {wrong}; use another model"
        raise Refused("InvalidModel", message, _URI) from wrong
    if why := _unsuited(config, task):
        message = f"{source}: model_type {config.model_type!r} {why}"
        raise Refused("UnsupportedModel", message, _URI)
    if isinstance(task, Embedding | CausalLM | MaskedLM):
        return config
    if getattr(config, "problem_type", None) not in {None, task.problem_type}:
        message = f"{source}: problem_type {config.problem_type!r}; remove it from config.json"
        raise Refused("UnsupportedModel", message, _URI)
    return config


def _unsuited(config: PreTrainedConfig, task: Learning) -> str:
    """Return why a model of this type cannot have the head of a task; empty if it can."""
    one_part, known = not config.is_encoder_decoder, config.model_type
    if isinstance(task, Embedding):
        fits = known in ENCODERS and one_part and not _is_decoder(config)
        why = "is no encoder, and task Embedding needs one; use a model such as a BERT"
    elif isinstance(task, CausalLM):
        fits = one_part and _is_decoder(config)
        why = "is no decoder, and task CausalLM needs one; use a model such as a Llama"
    elif isinstance(task, MaskedLM):
        fits = known in MASKED and one_part
        why = "has no head that predicts hidden tokens, as task MaskedLM needs; use a model such "
        why += "as a BERT"
    else:
        fits = known in CLASSIFIERS and one_part
        why = "does not support sequence classification; use a model that does, such as a BERT"
    return "" if fits else why


def _head_size(config: PreTrainedConfig, task: Learning) -> int:
    """Return the number of outputs to load: fewer than the task's if labels were appended to it.

    The first generation that is trained then grows the head.
    """
    known = {*(config.id2label or {}).values()}
    grown = 1 < len(known) < len(task.outputs) and known == {*task.outputs[: len(known)]}
    return len(known) if grown else len(task.outputs)


def _load_with_report(source: Path, size: int) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load with a head of so many outputs, and return transformers' report of missing weights."""
    model, report = sequence_head.load(
        source,
        num_labels=size,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return model.eval(), report


def _check_finite(model: PreTrainedModel, source: Path) -> None:
    wrong = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if wrong:
        message = f"{source}: {len(wrong)} weights have NaN or infinite numbers, such as {wrong[0]}"
        raise Refused("InvalidModel", f"{message}; use another copy of the model", _URI)


def _new_parameters(model: PreTrainedModel, report: dict[str, Any], source: Path) -> set[str]:
    """Return the parameters to initialize: the whole head and pooler, or none.

    Raises:
        Refused: weights of the encoder are missing.
    """
    mismatched = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    absent = {*report["missing_keys"], *mismatched} & dict(model.named_parameters()).keys()
    outside = sequence_head.outside_base(model)
    lost = sorted(name for name in absent - outside if ".pooler." not in name)
    if lost:
        raise _lost(lost, source)
    return absent | outside if absent else set()


def _tokenizer(source: Path, model: PreTrainedModel, recipe: Recipe) -> PreTrainedTokenizerBase:
    config = model.config
    try:
        tokenizer = load_tokenizer(source)
    except Exception as wrong:  # each tokenizer raises its own errors
        message = f"the tokenizer of {source} cannot be loaded: {wrong}; copy its files again"
        raise Refused("MissingTokenizer", message, _URI) from wrong
    responds = recipe.model.task == CAUSAL_LM
    if not tokenizer.is_fast or (tokenizer.pad_token_id is None and not responds):
        message = f"the tokenizer of {source} is not a fast one or has no padding token; add both"
        raise Refused("UnsupportedTokenizer", message, _URI)
    if responds and tokenizer.eos_token_id is None:
        message = (
            f"the tokenizer of {source} has no token that ends texts (eos_token), and a response "
            "ends with one; add it to tokenizer_config.json"
        )
        raise Refused("UnsupportedTokenizer", message, _URI)
    if recipe.model.task == MASKED_LM and tokenizer.mask_token_id is None:
        message = (
            f"the tokenizer of {source} has no mask token (mask_token), which stands for hidden "
            "tokens in task MaskedLM; use an encoder whose tokenizer has one"
        )
        raise Refused("UnsupportedTokenizer", message, _URI)
    if not responds:
        _check_padding(source, config, tokenizer)
    if (count := highest_id(tokenizer) + 1) > config.vocab_size:
        message = f"{source}: the tokenizer numbers tokens up to {count:,}, the model has "
        message += f"{config.vocab_size:,}; use the tokenizer of this model"
        raise Refused("UnsupportedTokenizer", message, _URI)
    check_max_length(model, recipe.model.max_length, int(tokenizer.model_max_length))
    # Rows of prompts and responses are padded on the right, where no token sees it.
    scores = recipe.model.task not in {CAUSAL_LM, MASKED_LM}
    if scores and not choose_side(model, tokenizer):
        message = (
            f"{source}: scores of model_type {config.model_type!r} depend on the padding of a row, "
            "and so on the rows that are scored with it; use a model that reads attention_mask"
        )
        raise Refused("UnsupportedModel", message, _URI)
    return tokenizer


def _is_decoder(config: PreTrainedConfig) -> bool:
    return config.model_type in CAUSAL and config.model_type not in MASKED


def _check_padding(
    source: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a decoder whose padding token is not the tokenizer's.

    It classifies by the last token of a row that is not padding, so it must know the padding token.
    """
    known = getattr(config, "pad_token_id", None)
    if _is_decoder(config) and known != tokenizer.pad_token_id:
        raise Refused(
            "MissingPadToken",
            f"{source}/config.json: pad_token_id is {known}, but the tokenizer's is "
            f"{tokenizer.pad_token_id}; a decoder needs it to find the last token: add "
            f'"pad_token_id": {tokenizer.pad_token_id} to config.json',
            _URI,
        )
