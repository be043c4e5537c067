"""An evaluation of decoders: from a CSV through probe, rules and report to a verdict."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from trainer import decoders
from trainer.evaluation.conftest import Shop, in_shards, with_window, write_csv
from transformers import AutoModelForCausalLM

from springtide_api.update.gate import Gate
from springtide_api.update.task import CausalLMOptions
from springtide_judging.bounds import measured
from springtide_judging.rules import judge_rule
from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.stages.evaluate import evaluate
from springtide_trainer.storage import Home, local_path, warm_up_file

if TYPE_CHECKING:
    from springtide_api.contract import CommittedArtifact

RULES = [
    {"name": "useful", "metric": "perplexity", "max": "4"},
    {"name": "better", "metric": "perplexity", "minImprovement": {"relative": "0.1"}},
    {"name": "lasting", "metric": "perplexity", "maxCumulativeRegression": {"absolute": "0.5"}},
]
DATASETS = [{"name": "holdout", "role": "Holdout"}, {"name": "old", "role": "Historical"}]


def make_model(home: Home, name: str, *, steps: int) -> CommittedArtifact:
    """Commit a decoder that has learnt the responses of `dialogues` in so many steps."""
    torch.manual_seed(3)
    words = decoders.tokenizer()
    model, rows = decoders.decoder(len(words)), [row for row in dialogues() if row["sound"]]
    texts = [f"{row['prompt']} {row['response']} {decoders.END}" for row in rows]
    batch = words(texts, padding=False)["input_ids"]
    width = max(map(len, batch))
    ids = torch.tensor([row + [words.eos_token_id] * (width - len(row)) for row in batch])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        part = ids[step % 4 :: 4]
        model(part, labels=part).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = home.path / "tmp" / name
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    Preprocess(
        text="prompt",
        max_length=24,
        task="CausalLM",
        causal_lm=CausalLMOptions(max_new_tokens=6),
    ).write(folder)
    return manifest.commit(folder, home)


class Support(Shop):
    """Two months of dialogues whose responses are those of one of the models, mostly."""

    def recipe(self, **asked: Any) -> dict[str, Any]:
        made = super().recipe(**asked)
        made["data"]["source"]["columns"] = {
            "text": "prompt",
            "label": "response",
            "timestamp": "at",
            "entity": "shopper",
        }
        del made["model"]["labels"]
        made["model"] |= {"task": "CausalLM", "maxLength": 24, "causalLm": {"maxNewTokens": 6}}
        return made


def dialogues(count: int = 600) -> list[dict[str, Any]]:
    """A response has the words after the last of its prompt, up to every third; or others."""
    random = np.random.default_rng(5)
    rows = []
    for at in range(count):
        asked = int(random.choice([0, 1, 3, 4, 6, 7]))
        before, sound = random.choice(decoders.WORDS, random.integers(0, 4)), random.random() > 0.05
        own = decoders.WORDS[asked + 1 : asked // 3 * 3 + 3]
        rows.append(
            {
                "at": f"2026-{1 + (at * 2) // count:02}-{1 + at % 27:02} 12:00:00",
                "shopper": f"s{(at // 5) % 60}",
                "prompt": " ".join([*before, decoders.WORDS[asked]]),
                "response": " ".join(own if sound else random.choice(decoders.WORDS, 2)),
                "sound": sound,
            }
        )
    return rows


@pytest.fixture(scope="module")
def support(tmp_path_factory: pytest.TempPathFactory) -> Support:
    home = Home(tmp_path_factory.mktemp("support") / "home")
    knowing, other = (make_model(home, f"model-{steps}", steps=steps) for steps in (40, 0))
    source = write_csv(home.path / "dialogues.csv", dialogues())
    made = Support(home, source, None, knowing, other)  # type: ignore[arg-type]
    return with_window(made, "2026-06-01T00:00:00Z", rules=RULES)


def plain(support: Support, made: CommittedArtifact) -> list[tuple[float, int]]:
    """Return sum and number of tokens of each response of the holdout, by plain transformers."""
    rows = pq.read_table(local_path(support.window.manifest) / "holdout.parquet").to_pylist()
    model = AutoModelForCausalLM.from_pretrained(local_path(made.uri)).eval()
    words, found = decoders.tokenizer(), []
    for row in rows:
        begin = words(row["text"])["input_ids"]
        end = [*words(row["label"])["input_ids"], words.eos_token_id]
        with torch.no_grad():
            labels = torch.tensor([[*[-100] * len(begin), *end]])
            mean = float(model(torch.tensor([[*begin, *end]]), labels=labels).loss)
        found.append((mean * len(end), len(end)))
    return found


def test_the_better_decoder_is_accepted_by_its_perplexity(support):
    output = support.evaluate(
        support.knowing,
        support.other,
        rules=RULES,
        datasets=DATASETS,
        historical=[support.window.manifest],
        reference=support.other,
        job="accepted",
    )
    numbers, gate = measured(output), Gate.model_validate({"rules": RULES})
    judged = [
        judge_rule(rule, numbers[rule.name], baseline=True, on_holdout=True) for rule in gate.rules
    ]
    assert [each.result.verdict for each in judged if each] == ["Pass", "Pass", "Pass"], numbers

    values = {}
    for name, made in (("candidate", support.knowing), ("live", support.other)):
        found = plain(support, made)
        values[name] = math.exp(sum(each for each, _ in found) / sum(n for _, n in found))
    row = numbers["useful"]
    assert row.candidate.value == pytest.approx(values["candidate"], rel=1e-4)
    assert numbers["better"].live.value == pytest.approx(values["live"], rel=1e-4)
    assert row.candidate.value < row.trivial_baseline < len(decoders.tokenizer())

    folder = support.report(output)
    holdout = [("dataset", "=", "holdout")]
    scores = pq.read_table(folder / "scores.parquet", filters=holdout)
    expected = [total / count for total, count in plain(support, support.knowing)]
    assert [one[0] for one in scores["candidate"].to_pylist()] == pytest.approx(expected, rel=1e-3)
    written = json.loads((folder / "metrics.json").read_text())
    assert list(written["datasets"][0]["metrics"]) == ["perplexity"]
    assert written["datasets"][1]["metrics"]["perplexity"]["candidate"]["value"] < 4
    page = (folder / "report.html").read_text()
    assert "negative log likelihood of the tokens of the responses" in page
    assert "positives" not in page


def test_the_worse_decoder_is_rejected(support):
    output = support.evaluate(support.other, support.knowing, rules=RULES[:2], job="rejected")
    numbers, gate = measured(output), Gate.model_validate({"rules": RULES[:2]})
    verdicts = [
        judge_rule(rule, numbers[rule.name], baseline=True, on_holdout=True).result.verdict
        for rule in gate.rules
    ]
    assert verdicts == ["Reject", "Reject"]


def test_a_bound_that_frequencies_of_tokens_meet_proves_nothing(support):
    rules = [{"name": "useful", "metric": "perplexity", "max": "1000"}]
    output = support.evaluate(support.other, None, rules=rules, job="nothing")
    (rule,) = Gate.model_validate({"rules": rules}).rules
    judged = judge_rule(rule, measured(output)["useful"], baseline=False, on_holdout=True)
    assert judged.result.verdict == "Inconclusive"
    assert "a trivial baseline scores" in judged.result.message


def test_warm_up_queries_are_prompts_alone(support):
    support.evaluate(support.knowing, None, rules=RULES[:1], job="warm-up")
    asked = json.loads(warm_up_file(local_path(support.knowing.uri)).read_text())["requests"]
    assert {tensor["name"] for request in asked for tensor in request["inputs"]} == {"text"}


def test_in_shards_the_tokens_of_all_rows_say_how_frequent_one_is(support):
    whole = support.evaluate(support.knowing, support.other, job="whole", rules=RULES)
    asked = support.run(support.knowing, support.other, job="shards", rules=RULES)
    with support.home.tmp("shards", "pod") as tmp:
        parts = evaluate(in_shards(asked, 70), support.home, tmp)
    assert parts.trivial_baseline == whole.trivial_baseline
    for one, other in zip(parts.rules, whole.rules, strict=True):
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:], rel=1e-3, nan_ok=True)
