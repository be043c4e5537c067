"""The example of CausalLM without a cluster: `springtide-trainer run`, then its server."""

import json

import torch
import yaml
from demo.cluster import EXAMPLES
from e2e import small_model
from server.conftest import hosting

from springtide_server.settings import Settings
from springtide_trainer.local.commands import main
from springtide_trainer.local.lineage import Generations
from springtide_trainer.storage import local_path

MONTHS = ("2026-01", "2026-02", "2026-03")
THINGS = small_model.THINGS


def manifest(folder):
    """Write months, model and the example with hyperparameters for them; return its file."""
    small_model.publish_decoder(folder / "tiny")
    (folder / "data").mkdir()
    for month in MONTHS:
        (folder / "data" / f"{month}.csv.gz").write_bytes(small_model.dialogues(month))
    made = yaml.safe_load((EXAMPLES / "tasks" / "support.yaml").read_text())
    made["spec"]["model"] |= {"maxLength": 32, "causalLm": {"maxNewTokens": 8}}
    # A random model has nothing that adapters could build on.
    made["spec"]["training"]["method"] = {"type": "Full"}
    made["spec"]["training"]["hyperparameters"] = small_model.DIALOGUES
    made["spec"]["gate"]["rules"][0]["max"] = "2"
    made["spec"]["gate"]["rules"][1]["maxRegression"]["relative"] = "0.2"
    (folder / "update.yaml").write_text(json.dumps(made))
    return folder / "update.yaml"


async def test_two_months_are_trained_on_and_the_server_answers_as_the_support_did(
    tmp_path, capsys
):
    places = [f"--data={tmp_path / 'data'}", f"--model={tmp_path / 'tiny'}"]
    command = ["run", str(manifest(tmp_path)), *places, f"--storage={tmp_path / 'out'}"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    codes = [main([*command, "--through", through]) for through in ("2026-03-01", "2026-04-01")]
    torch.set_num_threads(threads)
    out, errors = capsys.readouterr()
    assert codes == [0, 0], out + errors
    initial, first, second = Generations.read(tmp_path / "out" / "shop" / "support").generations
    assert (first.verdict, second.verdict) == ("Accepted", "Accepted"), out

    written = json.loads((local_path(second.report) / "metrics.json").read_text())
    assert (written["task"], written["retained"]["replay"]["rows"] > 0) == ("CausalLM", True)
    found = written["datasets"][0]["metrics"]["perplexity"]
    assert found["candidate"]["value"] < 2 < written["trivial_baseline"][0]

    answered = {}
    for generation in (initial, second):
        made = generation.artifact
        settings = Settings(model_uri=made.uri, model_digest=made.digest)
        async with hosting(settings) as (client, _):
            answers = [
                await client.post(
                    "/v2/models/model/generate",
                    json={"history": "next", "question": f"the sturdy {thing}"},
                )
                for thing in THINGS
            ]
        answered[generation.number] = [answer.json()["text_output"] for answer in answers]
    right = [f"the {thing} is here" for thing in (*THINGS[1:], THINGS[0])]
    assert sum(map(str.__eq__, answered[2], right)) >= 6
    assert not set(answered[0]) & set(right)
