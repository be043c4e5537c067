"""A model of two layers and months that it learns in seconds: one word of the item is the label.

In `searches` a query has a list of items, and the word is the relevance.

Everything is generated from seeds, so two examples with the same months get the same weights.
"""

import csv
import gzip
import io
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import shop
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from trainer import decoders
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

GOOD = ("lovely", "sturdy", "bright", "soft")
BAD = ("broken", "dull", "rough", "faded")
THINGS = ("lamp", "mug", "scarf", "basket", "clock", "frame", "rug", "vase")
PLAIN = ("bought", "the", "a", "old", "new")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LABELS = ("0", "1")
TOKENS = 32
ROWS = 480
CUSTOMERS = 80
FLIPPED = 0.05
"""Share of the labels that are wrong, so that no metric is perfect."""


def publish(folder: Path, *, head: bool) -> None:
    """Write the folder of the initial model; with a head it is served as generation 0."""
    torch.manual_seed(7)
    words = _tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=TOKENS,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    model = BertForSequenceClassification(config) if head else BertModel(config)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    _readable(folder)


def month(
    name: str, rows: int = ROWS, *, label: Callable[[shop.Row, random.Random], object] | None = None
) -> bytes:
    """Make the file of a month such as 2026-01; `label` replaces the labels of its rows."""
    rng = random.Random(f"small {name}")
    first = datetime.fromisoformat(f"{name}-01T00:00:00+00:00")
    moments = sorted(rng.random() for _ in range(rows))
    made = [_row(rng, first + timedelta(days=27 * moment)) for moment in moments]
    if label:
        made = [(*row[:-1], label(row, rng)) for row in made]
    return shop.as_csv(made)


PRICING = {
    "epochs": 12,
    "learningRate": "2e-3",
    "batchSize": 8,
    "freeze": {"embeddings": False},
}
"""Hyperparameters that learn `price` in one month."""
RISE = 4
"""By how much prices rise a month. Without it, nothing beats a live model whose only error is the
noise, and early stopping keeps the live model's weights."""


def price(row: shop.Row, rng: random.Random) -> float:
    """The price of a row's item: by its two words and its month, with noise."""
    quality, thing = row[3].split()
    words, month = (30 if quality in GOOD else 0), datetime.fromisoformat(str(row[0])).month
    return round(40 + words + 5 * THINGS.index(thing) + RISE * month + rng.gauss(0, 2), 2)


RANKING = PRICING | {"epochs": 6, "learningRate": "3e-3"}
"""Hyperparameters that learn the order of `searches` in one month."""
JUDGEMENTS = {"irrelevant": BAD, "partial": ("old", "new"), "exact": GOOD}


def searches(name: str, queries: int = 100) -> bytes:
    """Make the file of a month whose rows are lists of 4 to 7 judged items of a query."""
    rng = random.Random(f"searches {name}")
    first = datetime.fromisoformat(f"{name}-01T00:00:00+00:00")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("ts", "query_id", "query", "title", "judgement"))
    for number in range(queries):
        moment = first + timedelta(days=27 * number / queries)
        thing = rng.choice(THINGS)
        for _ in range(rng.randint(4, 7)):
            shown = rng.choices(tuple(JUDGEMENTS), weights=(5, 2, 2))[0]
            title = f"{rng.choice(JUDGEMENTS[shown])} {thing}"
            label = rng.choice(tuple(JUDGEMENTS)) if rng.random() < FLIPPED else shown
            key = f"{name}-{number:03}"
            table.writerow((f"{moment:%Y-%m-%d %H:%M:%S}", key, f"the {thing}", title, label))
    return gzip.compress(text.getvalue().encode(), mtime=0)


RETRIEVAL = PRICING | {"epochs": 8, "learningRate": "5e-3", "batchSize": 32}
"""Hyperparameters that learn to find the products of `purchases` in one month."""


def purchases(name: str, rows: int = ROWS) -> bytes:
    """Make the file of a month whose rows are a search and the product that was bought after it.

    Searches name the two words of a product by the words after them, so that a model that was not
    trained finds nothing.
    """
    rng = random.Random(f"purchases {name}")
    first = datetime.fromisoformat(f"{name}-01T00:00:00+00:00")
    qualities, text = GOOD + BAD, io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("ts", "customer", "query", "title", "product"))
    for number in range(rows):
        moment = first + timedelta(days=27 * number / rows)
        quality, thing = rng.randrange(len(qualities)), rng.randrange(len(THINGS))
        asked = qualities[(quality + 1) % len(qualities)], THINGS[(thing + 1) % len(THINGS)]
        if rng.random() < FLIPPED:
            quality = rng.randrange(len(qualities))
        title, customer = f"{qualities[quality]} {THINGS[thing]}", f"c{rng.randrange(CUSTOMERS):03}"
        key = f"p{quality}{thing}"
        table.writerow(
            (f"{moment:%Y-%m-%d %H:%M:%S}", customer, f"the {' '.join(asked)}", title, key)
        )
    return gzip.compress(text.getvalue().encode(), mtime=0)


DIALOGUES = PRICING | {"epochs": 12, "learningRate": "5e-3", "batchSize": 16}
"""Hyperparameters that learn the answers of `dialogues` in one month, with all weights."""
SAID = ("customer", "support", "is", "the", "here", "next")


def publish_decoder(folder: Path) -> None:
    """Write the folder of a decoder that knows nothing of `dialogues`."""
    decoders.publish(folder, [*SAID, *GOOD, *BAD, *THINGS])
    _readable(folder)


def dialogues(name: str, rows: int = ROWS) -> bytes:
    """Make the file of a month whose rows are a question for a thing, and the answer to it.

    The answer names the thing after it, so that a model that was not trained does not know it.
    """
    rng = random.Random(f"dialogues {name}")
    first = datetime.fromisoformat(f"{name}-01T00:00:00+00:00")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("ts", "customer", "history", "question", "answer"))
    for number in range(rows):
        moment = first + timedelta(days=27 * number / rows)
        asked = rng.randrange(len(THINGS))
        named = rng.randrange(len(THINGS)) if rng.random() < FLIPPED else asked + 1
        answer = f"the {THINGS[named % len(THINGS)]} is here"
        question = f"the {rng.choice(GOOD + BAD)} {THINGS[asked]}"
        customer = f"c{rng.randrange(CUSTOMERS):03}"
        table.writerow((f"{moment:%Y-%m-%d %H:%M:%S}", customer, "next", question, answer))
    return gzip.compress(text.getvalue().encode(), mtime=0)


def _readable(folder: Path) -> None:
    """Let pods read the files, as another user."""
    for file in folder.iterdir():
        file.chmod(0o644)


def _row(rng: random.Random, moment: datetime) -> shop.Row:
    good = rng.random() < 0.5
    item = f"{rng.choice(GOOD if good else BAD)} {rng.choice(THINGS)}"
    query = f"bought the {rng.choice(THINGS)} a {rng.choice(('old', 'new'))} one"
    label = int(good) if rng.random() > FLIPPED else int(not good)
    customer = f"c{rng.randrange(CUSTOMERS):03}"
    return (f"{moment:%Y-%m-%d %H:%M:%S}", customer, query, item, label)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = [*SPECIAL, *GOOD, *BAD, *THINGS, *PLAIN]
    numbers = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=TOKENS, **special)
