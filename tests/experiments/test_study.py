"""The study: runs everything, skips what is done, and says in its table which learning rate and scenes it was."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from geoflow.experiments.collection import CollectionError, collect

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from study import DEVELOPMENT_SEED, METHODS, settings, study


@pytest.mark.parametrize("development", [False, True])
def test_a_rate_is_compared_on_development_scenes_and_judged_on_others(development):
    config = settings(Path("out"), "peg_study", "ddpm", 4e-3, development=development)
    assert config.train.learning_rate == 4e-3
    assert config.evaluate.first_seed == (DEVELOPMENT_SEED if development else 1_000_000)


@pytest.mark.parametrize("method", METHODS)
def test_without_rates_a_method_has_its_own_and_the_held_out_scenes(method):
    config = settings(Path("out"), "key_turn", method, steps=7)
    assert config.evaluate.first_seed == 1_000_000 > DEVELOPMENT_SEED + config.evaluate.episodes
    assert config.train.steps == 7
    assert config.train.learning_rate == 2e-3


def test_it_does_not_train_on_the_demonstrations_of_another_study(tmp_path):
    tiny = settings(tmp_path, "peg_study", "se3_flow", quick=True)
    collect(tiny.env, tiny.collect, tiny.train.files[0])
    with pytest.raises(CollectionError, match="episodes 4 there, 2000 asked for"):
        study(tmp_path, ["peg_study"], ["se3_flow"], [0])


@pytest.mark.slow
def test_it_runs_and_skips_what_is_done(tmp_path):
    table = study(tmp_path, ["peg_study"], ["se3_flow", "regression"], [0], rates=[1e-3], quick=True)
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.read_text().splitlines()[2:]]
    assert {(row[1], row[4]) for row in rows} == {
        ("se3_flow", "1"), ("se3_flow", "2"), ("se3_flow", "4"), ("se3_flow", "10"), ("regression", "1")
    }  # fmt: skip
    assert {row[2] for row in rows} == {"0.001"}
    records = json.loads((tmp_path / "results.json").read_text())
    assert len(records) == len(rows)
    assert (tmp_path / "peg_study" / "report.html").stat().st_size > 10_000
    weights = tmp_path / "peg_study" / "se3_flow_0.001_0" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    study(tmp_path, ["peg_study"], ["se3_flow", "regression"], [0], rates=[1e-3], quick=True)
    assert weights.stat().st_mtime_ns == written
    # Another call, of a part and a further seed: everything of the same settings is in the table, once.
    shutil.copytree(weights.parent, tmp_path / "peg_study" / "se3_flow_0")
    longer = shutil.copytree(weights.parent, tmp_path / "peg_study" / "se3_flow_0.001_7")
    meta = json.loads((longer / "config.json").read_text())
    meta["config"]["train"]["steps"], meta["seed"] = 5, 7
    (longer / "config.json").write_text(json.dumps(meta))
    study(tmp_path, ["peg_study"], ["se3_flow"], [1], rates=[1e-3], quick=True)
    records = json.loads((tmp_path / "results.json").read_text())
    assert Counter((record["method"], record["training_seed"]) for record in records) == {
        ("se3_flow", 0): 4, ("se3_flow", 1): 4, ("regression", 0): 1
    }  # fmt: skip
    assert len(table.read_text().splitlines()) == 2 + 4 + 1
    table = study(tmp_path, ["peg_study"], ["se3_flow"], [0], rates=[1e-3], quick=True, development=True)
    assert len(table.read_text().splitlines()) == 2 + 4
    records = json.loads((tmp_path / "results.json").read_text())
    assert {record["first_seed"] for record in records} == {DEVELOPMENT_SEED}
