"""Local runs are held by the Fisher information of the local live generation, as the operator's."""

from __future__ import annotations

import json

import yaml


def test_a_run_takes_what_the_live_generation_left(laptop, capsys):
    laptop.write()
    manifest = yaml.safe_load(laptop.manifest.read_text())
    manifest["spec"]["training"]["retention"] = {
        "ewc": {"strength": "1", "rows": 20},
        "distillation": {},
    }
    laptop.manifest.write_text(json.dumps(manifest))
    for through in ("2026-03-01", "2026-04-01"):
        assert laptop.run("--through", through) == 0, capsys.readouterr()
    imported, one, two = laptop.generations()

    assert imported.fisher is None
    assert one.fisher not in {None, two.fisher}
    assert "ewc_penalty" not in one.metrics
    assert two.metrics["ewc_penalty"] > 0
