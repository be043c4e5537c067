"""Small configurations of the architectures that models are tested with: encoders and decoders."""

from typing import Any

from transformers import (
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    RobertaConfig,
)

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 99,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
SMALL_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 512, "vocab_size": 99}
ARCHITECTURES = {
    "bert": BertConfig(**SMALL),
    "roberta": RobertaConfig(**SMALL | {"max_position_embeddings": 514}),
    "distilbert": DistilBertConfig(dim=64, n_layers=2, n_heads=2, hidden_dim=128, vocab_size=99),
    "deberta-v2": DebertaV2Config(
        **SMALL, relative_attention=True, position_buckets=64, pos_att_type=["p2c", "c2p"]
    ),
    "modernbert": ModernBertConfig(**SMALL, bos_token_id=1, cls_token_id=1, sep_token_id=2),
    "gpt2": GPT2Config(**SMALL_GPT2, pad_token_id=0, bos_token_id=1, eos_token_id=2),
    "llama": LlamaConfig(**SMALL, num_key_value_heads=2, bos_token_id=1, eos_token_id=2),
}
