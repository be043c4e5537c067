"""`springtide-trainer tune`: what is tried on which rows, and what is found."""

from __future__ import annotations

import argparse
import os
import shlex
import signal

import optuna
import pytest
import yaml
from docs.pages import script

from springtide_api.contract import ExitCode
from springtide_api.update.training import Training
from springtide_trainer.errors import Diverged
from springtide_trainer.local.commands import main
from springtide_trainer.local.tuning import search_space, trials
from springtide_trainer.local.tuning.search_space import parse

STOPPING = {"earlyStopping": {"metric": "auc", "everySteps": 5, "validationFraction": "0.3"}}
RATES = "learningRate=1e-7:1e-2"


def tune(laptop, *more, written="found.yaml"):
    """Search in this process; return its exit code."""
    _, *paths = laptop.arguments("--write", str(laptop.folder / written), *more)
    return main(["tune", *paths])


def found(laptop):
    return yaml.safe_load((laptop.folder / "found.yaml").read_text())


def tried(laptop):
    """Return the trials of the only search."""
    log = optuna.storages.journal.JournalFileBackend(str(laptop.home / "tune" / "trials.log"))
    storage = optuna.storages.JournalStorage(log)
    (study,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=study.study_name, storage=storage).trials


@pytest.fixture
def recorded(monkeypatch):
    """The rows and the hyperparameters of each trial; their values on the validation part."""
    seen, values = [], {}

    def train(self, trial, run, rows, scratch):
        seen.append((run, rows))
        trials._record(trial, {trials.BEST_STEP: 5})
        found = values.get(len(seen) - 1, 0.5)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(trials.Search, "_train", train)
    return seen, values


def test_a_search_writes_the_recipe_that_is_better_on_the_validation_part(laptop, capsys):
    laptop.write(STOPPING, learningRate="1e-7", epochs=1)

    assert tune(laptop, "--search", RATES, "--trials", "4") == 0

    out = capsys.readouterr().out
    first, *others = tried(laptop)
    assert first.params == {"learningRate": 1e-7}
    best = max(others, key=lambda each: each.value or 0)
    assert best.value > first.value
    written = found(laptop)
    rate = written["spec"]["training"]["hyperparameters"]["learningRate"]
    assert float(rate) == float(f"{best.params['learningRate']:.3g}")
    assert written["spec"]["training"]["earlyStopping"] == STOPPING["earlyStopping"]
    text = (laptop.folder / "found.yaml").read_text()
    assert f"auc {best.value:.4f}" in text
    assert f"the recipe as it was: {first.value:.4f}" in text
    assert "# 4 trials" in text
    assert "found.yaml is written" in out
    assert "trial 1: learningRate 1e-07: auc" in out
    # What was found can be run, and leaves nothing behind but the log of the trials.
    assert [each.name for each in (laptop.home / "tune").iterdir()] == ["trials.log"]
    laptop.manifest.write_text(text)
    assert laptop.run("--through", "2026-03-01") in {0, 1}


def test_no_row_of_the_holdout_is_read_and_no_generation_is_made(laptop, recorded):
    laptop.write(STOPPING)
    recorded[1][1] = 0.75

    assert tune(laptop, "--search", RATES, "--trials", "3", "--through", "2026-03-01") == 0

    _, rows = recorded[0][0]
    assert len(rows.validation)
    assert len(rows.validation) + len(rows.units.rows) == 120  # January alone
    assert all(each is rows for _, each in recorded[0])
    (imported,) = laptop.generations()
    assert imported.verdict == "Imported"
    for run, _ in recorded[0]:
        assert run.train.data.digest == recorded[0][0][0].train.data.digest


def test_the_first_trial_is_the_recipe_and_a_search_that_beats_it_nowhere_writes_nothing(
    laptop, recorded, capsys
):
    laptop.write(STOPPING, learningRate="3e-5", epochs=2)
    recorded[1][0] = 0.9

    assert tune(laptop, "--trials", "3") == 1

    hyperparameters = recorded[0][0][0].recipe.training.hyperparameters
    assert (hyperparameters.learning_rate, hyperparameters.epochs) == ("3e-05", 2)
    assert (hyperparameters.warmup, hyperparameters.weight_decay) == ("0.1", "0.01")
    assert not (laptop.folder / "found.yaml").exists()
    assert "no values are better than those of the recipe; nothing is written" in (
        capsys.readouterr().out
    )


def test_a_metric_of_which_less_is_better_is_minimized(laptop, recorded):
    laptop.write({"earlyStopping": {"metric": "log_loss"}})
    recorded[1].update({0: 0.6, 1: 0.7, 2: 0.4})

    assert tune(laptop, "--search", RATES, "--trials", "3") == 0

    best = tried(laptop)[2].params["learningRate"]
    rate = found(laptop)["spec"]["training"]["hyperparameters"]["learningRate"]
    assert float(rate) == float(f"{best:.3g}")


def test_the_same_command_continues_where_an_earlier_one_ended(laptop, recorded):
    laptop.write(STOPPING)
    recorded[1][1] = 0.75

    assert tune(laptop, "--search", RATES, "--trials", "2") == 0
    assert tune(laptop, "--search", RATES, "--trials", "5") == 0
    assert len(recorded[0]) == 5
    assert len({each.params["learningRate"] for each in tried(laptop)}) == 5

    # Other rows and other bounds are another search.
    assert tune(laptop, "--search", "learningRate=1e-6:1e-2", "--trials", "1") == 1
    assert tune(laptop, "--search", RATES, "--trials", "1", "--through", "2026-05-01") == 1
    assert len(recorded[0]) == 7


def test_an_interrupted_trial_is_repeated(laptop, monkeypatch, recorded, capsys):
    laptop.write(STOPPING)
    recorded[1][1] = 0.75
    counted = trials.Search._train

    def interrupted(self, trial, run, rows, scratch):
        if len(recorded[0]) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return counted(self, trial, run, rows, scratch)

    with monkeypatch.context() as patched:
        patched.setattr(trials.Search, "_train", interrupted)
        assert tune(laptop, "--search", RATES, "--trials", "4") == 128 + signal.SIGTERM
    assert "interrupted; the same command continues" in capsys.readouterr().out
    assert tune(laptop, "--search", RATES, "--trials", "4") == 0

    states = [each.state.name for each in tried(laptop)]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    third, again = tried(laptop)[2:4]
    assert third.params == again.params
    assert not (laptop.home / "tune" / "trial-2").exists()


def test_a_recipe_whose_trial_was_interrupted_is_still_what_others_are_compared_with(
    laptop, monkeypatch, recorded, capsys
):
    laptop.write(STOPPING)
    recorded[1][0] = 0.9

    def interrupted(self, trial, run, rows, scratch):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(trials.Search, "_train", interrupted)
        assert tune(laptop, "--search", RATES, "--trials", "3") == 128 + signal.SIGTERM
    assert tune(laptop, "--search", RATES, "--trials", "3") == 1

    assert len(recorded[0]) == 3
    assert recorded[0][0][0].recipe.training.learning_rate == "0.003"
    assert "recipe" in capsys.readouterr().out
    assert not (laptop.folder / "found.yaml").exists()


@pytest.mark.parametrize(
    ("method", "search"),
    [
        ({"type": "LoRA", "lora": {"rank": 4}}, "rank=4,6"),
        ({"type": "AdaLoRA", "adaLora": {"rank": 4}}, "rank=4,6"),
        ({"type": "Adapter", "adapter": {"width": 4}}, "width=4,6"),
        ({"type": "PromptTuning", "promptTuning": {"tokens": 4}}, "tokens=4,6"),
        ({"type": "PrefixTuning", "prefixTuning": {"tokens": 4}}, "tokens=4,6"),
    ],
    ids=["LoRA", "AdaLoRA", "Adapter", "PromptTuning", "PrefixTuning"],
)
def test_the_size_of_what_is_added_is_searched_with_each_method(laptop, recorded, method, search):
    laptop.write(STOPPING | {"method": method})
    recorded[1].update({0: 0.5, 1: 0.75})

    assert tune(laptop, "--search", search, "--trials", "2") == 0

    name, (option,) = next((key, value) for key, value in method.items() if key != "type")
    tried = [run.recipe.training.method.plain()[name][option] for run, _ in recorded[0]]
    assert tried == [4, 6]
    assert found(laptop)["spec"]["training"]["method"][name][option] == 6


@pytest.mark.parametrize("written", ["missing/found.yaml", "data"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_trained(
    laptop, recorded, capsys, written
):
    laptop.write(STOPPING)

    assert tune(laptop, written=written) == ExitCode.ENVIRONMENT

    assert "cannot be written; name a file in a folder of yours" in capsys.readouterr().err
    assert not recorded[0]


def test_a_trial_that_diverges_is_passed_over(laptop, recorded, capsys):
    laptop.write(STOPPING)
    recorded[1].update({1: Diverged(3, "loss is nan"), 2: 0.75})

    assert tune(laptop, "--search", RATES, "--trials", "3") == 0

    out = capsys.readouterr().out
    assert "diverged" in out
    assert "3 trials, 1 failed" in out


def test_trials_are_validated_after_as_many_rows_each(laptop, recorded):
    laptop.write({"earlyStopping": {"metric": "auc", "everySteps": 8}}, batchSize=8)
    recorded[1].update({0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4})

    assert tune(laptop, "--search", "batchSize=4,8,16", "--trials", "4") == 0

    for run, _ in recorded[0]:
        training = run.recipe.training
        assert training.hyperparameters.batch_size * training.early_stopping.every_steps == 64
    written = found(laptop)["spec"]["training"]
    every = written["earlyStopping"]["everySteps"]
    assert every * written["hyperparameters"]["batchSize"] == 64


def test_a_trial_that_is_worse_than_the_others_were_ends_early():
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=2)
    )

    class Stopping:
        def __init__(self, values):
            self.values = iter(values)

        def measure(self):
            return next(self.values)

    def runs(*values):
        trial = study.ask()
        stopping = Stopping(values)
        trials._report(stopping, trial)
        for _ in values:
            stopping.measure()
        study.tell(trial, values[-1])

    runs(0.5, 0.6, 0.7)
    runs(0.5, 0.6, 0.7)
    with pytest.raises(optuna.TrialPruned):
        runs(0.5, 0.4, 0.9)


def test_the_page_can_be_followed(laptop, monkeypatch, recorded):
    laptop.write(STOPPING, learningRate="2e-4")
    recorded[1][3] = 0.75
    monkeypatch.chdir(laptop.folder)
    (laptop.folder / "minilm").symlink_to(laptop.model)
    line = script("docs/how-to/try-a-recipe.md", "tune").replace("\\\n", " ")
    program, command, *asked = shlex.split(line)

    assert (program, command) == ("springtide-trainer", "tune")
    assert main([command, *asked]) == 0

    assert len(recorded[0]) == 6
    assert found(laptop)["kind"] == "IncrementalUpdate"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--search", "learningRate=1e-3:1"], "does not contain 0.0002, the value of the recipe"),
        (["--search", RATES, "--search", RATES], "--search names learningRate twice"),
        (["--search", "batchSize=8,70000"], "spec.training.hyperparameters.batchSize"),
        (["--search", "warmup=0:1.5"], "spec.training.hyperparameters.warmup"),
        (["--search", "rank=4,8"], "does not contain 0"),
        (["--search", "width=4,8"], "does not contain 0"),
    ],
)
def test_a_search_that_cannot_work_is_refused_before_anything_is_trained(
    laptop, recorded, capsys, asked, message
):
    laptop.write(STOPPING, learningRate="2e-4")

    assert tune(laptop, *asked) == ExitCode.INVALID_INPUT

    assert message in capsys.readouterr().err
    assert not recorded[0]
    assert not laptop.home.exists()


def test_without_a_validation_part_nothing_is_searched(laptop, capsys):
    assert tune(laptop) == ExitCode.INVALID_INPUT
    assert "spec.training.earlyStopping: is missing" in capsys.readouterr().err


def test_a_recipe_with_pruning_is_not_advised_to_add_what_pruning_excludes(laptop, capsys):
    laptop.write({"pruning": {"sparsity": "0.5"}})
    assert tune(laptop) == ExitCode.INVALID_INPUT
    error = capsys.readouterr().err
    assert "spec.training.pruning: excludes earlyStopping" in error
    assert "search without pruning" in error
    assert "add `earlyStopping" not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=1,2", "'seed' cannot be searched; choose one of learningRate, "),
        ("epochs", "'epochs' is not epochs=A,B or epochs=LOW:HIGH"),
        ("epochs=", "is not epochs=A,B or epochs=LOW:HIGH"),
        ("epochs=1:x", "is not epochs=A,B or epochs=LOW:HIGH"),
        ("epochs=1.5:2", "is not epochs=A,B or epochs=LOW:HIGH"),
        ("epochs=3:1", "3 is not below 1; swap them"),
        ("batchSize=8,8", "is not batchSize=A,B or batchSize=LOW:HIGH"),
        ("learningRate=0:1e-3", "0 must be greater than 0"),
        ("learningRate=nan:1", "is not learningRate=A,B"),
        ("learningRate=1e-5:inf", "is not learningRate=A,B"),
        ("schedule=", "is not schedule=A,B"),
    ],
)
def test_a_search_that_cannot_be_read_is_refused_in_words(text, message):
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        parse(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (0.0, "0"), (0.0123, "0.0123"), (2e-5, "2e-05"), (3.17e-6, "3.17e-06")],
)
def test_a_number_is_written_as_it_was_tried(value, text):
    assert search_space.written(value) == text
    assert float(text) == value


def test_a_time_that_is_over_before_the_first_trial_is_no_divergence(laptop, recorded, capsys):
    laptop.write(STOPPING)

    assert tune(laptop, "--minutes", "0") == 1

    out = capsys.readouterr().out
    assert "no trial was started before --minutes were over; raise it" in out
    assert "diverged" not in out
    assert recorded[0] == []


def test_what_is_searched_by_default_is_allowed():
    options = {"hyperparameters": {"epochs": 60, "learningRate": "0.5"}}
    training = Training.model_validate(options).resolved()

    found = {each.name: each.bounds for each in search_space.default(training)}

    assert found["epochs"] == (1, 100)
    assert found["learningRate"] == (0.05, 1.0)
