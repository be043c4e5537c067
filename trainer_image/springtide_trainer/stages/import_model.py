"""Makes generation 0: any Hugging Face folder of an encoder becomes an artifact.

The folder comes from people and is looked at before anything loads it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS,
)

from springtide_trainer.artifact import head, manifest, saving
from springtide_trainer.artifact.huggingface_folder import inspect
from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from springtide_api.contract import ArtifactMade, RunFile
    from springtide_api.generation import Recipe
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

_URI = "spec.model.initial.uri"


def import_model(run: RunFile, home: Home, tmp: Path) -> ArtifactMade:
    """Import the initial model of an update.

    Raises:
        Refused: the folder is unsafe, incomplete, of a kind that cannot classify, or its labels or
            digest are not those of the spec.
    """
    if run.imported is None:
        raise Refused("InvalidRunFile", "stage import needs the block import in run.json")
    source = local_path(run.imported.uri, _URI)
    inspect(source, _URI)
    model, made = _load(source, run.recipe)
    tokenizer = _tokenizer(source, model.config, run.recipe)
    folder = tmp / "artifact"
    saving.save_model(model, folder)
    saving.save_tokenizer(tokenizer, folder)
    Preprocess.of(run.recipe).write(folder)
    digest = manifest.write_manifest(folder)
    if run.imported.digest not in {None, digest}:
        raise Refused(
            "DigestMismatch",
            f"{run.imported.uri} makes the digest {digest}, expected {run.imported.digest}; "
            "bring the folder back as it was, or leave model.initial.digest out",
            "spec.model.initial.digest",
        )
    log.info("model imported", extra={"digest": digest, "head": made})
    return manifest.commit(folder, home, made)


def _load(source: Path, recipe: Recipe) -> tuple[PreTrainedModel, Literal["Trained", "Seeded"]]:
    labels = recipe.model.labels
    config = _config(source)
    try:
        model, report = _load_with_report(source, labels)
    except (SafetensorError, RuntimeError, OSError, ValueError) as wrong:
        message = f"{source} cannot be loaded: {wrong}; copy it again"
        raise Refused("InvalidModel", message, _URI) from wrong
    new = _new_parameters(model, report, source)
    if new:
        head.seed(model, new, recipe.training.hyperparameters.seed)
        head.name_labels(model, labels)
        return model, "Seeded"
    names = [str(name) for name in (config.id2label or {}).values()]
    if sorted(names) != sorted(labels):
        raise Refused(
            "LabelMismatch",
            f"the head of {source} has the labels {names}, spec.model.labels are {labels}; spell "
            "them alike in spec.model.labels or in id2label of its config.json",
            "spec.model.labels",
        )
    head.reorder(model, labels)
    return model, "Trained"


def _config(source: Path) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            source, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, TypeError, OSError) as wrong:
        message = f"{source}/config.json: {wrong}; give another model"
        raise Refused("InvalidModel", message, _URI) from wrong
    if config.model_type not in CLASSIFIERS or config.is_encoder_decoder:
        message = (
            f"{source}: model_type {config.model_type!r} is no encoder that can classify; give "
        )
        message += "one that is, such as a BERT"
        raise Refused("UnsupportedModel", message, _URI)
    if getattr(config, "problem_type", None) not in {None, "single_label_classification"}:
        message = f"{source}: problem_type {config.problem_type!r}; remove it from config.json"
        raise Refused("UnsupportedModel", message, _URI)
    return config


def _load_with_report(source: Path, labels: list[str]) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load with a head for these labels, and tell what the folder lacked."""
    model, report = AutoModelForSequenceClassification.from_pretrained(
        source,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        num_labels=len(labels),
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return model.eval(), report


def _new_parameters(model: PreTrainedModel, report: dict[str, Any], source: Path) -> set[str]:
    """Name the parameters to seed: the whole head and the pooler below it, or nothing.

    Raises:
        Refused: weights of the encoder itself are missing.
    """
    mismatched = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    absent = {*report["missing_keys"], *mismatched} & dict(model.named_parameters()).keys()
    outside = head.outside_base(model)
    lost = sorted(name for name in absent - outside if ".pooler." not in name)
    if lost:
        raise Refused(
            "InvalidModel",
            f"{source}: {len(lost)} weights of the encoder are missing, such as {lost[0]}; copy "
            "the whole folder",
            _URI,
        )
    return absent | outside if absent else set()


def _tokenizer(source: Path, config: PreTrainedConfig, recipe: Recipe) -> PreTrainedTokenizerBase:
    try:
        tokenizer = load_tokenizer(source)
    except Exception as wrong:  # each kind of tokenizer fails with errors of its own
        message = f"the tokenizer of {source} cannot be loaded: {wrong}; copy its files again"
        raise Refused("MissingTokenizer", message, _URI) from wrong
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        message = f"the tokenizer of {source} has no fast form or padding token; save it with both"
        raise Refused("UnsupportedTokenizer", message, _URI)
    _check_padding(source, config, tokenizer)
    if len(tokenizer) > config.vocab_size:
        message = f"{source}: the tokenizer knows {len(tokenizer):,} tokens, the model "
        message += f"{config.vocab_size:,}; give the tokenizer of this very model"
        raise Refused("UnsupportedTokenizer", message, _URI)
    places = int(getattr(config, "max_position_embeddings", 0) or tokenizer.model_max_length)
    limit = min(places, int(tokenizer.model_max_length))
    if recipe.model.max_length > limit:
        raise Refused(
            "MaxLengthTooLong",
            f"spec.model.maxLength is {recipe.model.max_length}, the model reads {limit} tokens; "
            "lower it",
            "spec.model.maxLength",
        )
    return tokenizer


def _check_padding(
    source: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a decoder that would read a row's answer off the wrong token.

    It classifies by a row's last token that is no padding, and knows padding by its number.
    """
    kind, known = config.model_type, getattr(config, "pad_token_id", None)
    decoder = kind in CAUSAL and kind not in MASKED
    if decoder and known != tokenizer.pad_token_id:
        raise Refused(
            "MissingPadToken",
            f"{source}/config.json: pad_token_id is {known}, the tokenizer pads with "
            f"{tokenizer.pad_token_id}; a decoder finds the end of a row by it: write "
            f'"pad_token_id": {tokenizer.pad_token_id} into config.json',
            _URI,
        )
