"""A configuration is the defaults, changed by files from left to right; what it does not know, it refuses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from geoflow.experiments.config import Config, ConfigError, load, to_yaml

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def test_no_file_gives_the_defaults():
    assert load() == Config()


def test_later_files_win_and_leave_the_rest(tmp_path):
    one = write(
        tmp_path, "train: {steps: 5, batch_size: 3}\nenv: {kwargs: {level: 2, robot: panda}}", "1.yaml"
    )
    two = write(tmp_path, "train: {steps: 7}\nenv: {kwargs: {level: 0}}", "2.yaml")
    config = load([one, two], {"train.learning_rate": 0.5, "env.kwargs": {"in_hand": True}})
    assert (config.train.steps, config.train.batch_size, config.train.learning_rate) == (7, 3, 0.5)
    assert config.env.kwargs == {"level": 0, "robot": "panda", "in_hand": True}
    assert config.policy == Config().policy


def test_values_take_the_type_of_their_field(tmp_path):
    text = "train: {learning_rate: 1e-3, weight_decay: 1}\nevaluate: {nfe: [1, 3]}\npolicy: {type: 'my_lab.flows:Mine'}"
    config = load([write(tmp_path, text)])
    assert config.train.learning_rate == 1e-3
    assert isinstance(config.train.weight_decay, float)
    assert config.evaluate.nfe == (1, 3)
    assert config.policy.type == "my_lab.flows:Mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {step: 5}", ["unknown key train.step;", "did you mean train.steps?"]),
        ("trian: {steps: 5}", ["unknown key trian;", "did you mean train?"]),
        ("batch_size: 5", ["unknown key batch_size;", "did you mean train.batch_size?"]),
        ("policy: {zebra: 5}", ["unknown key policy.zebra;", "known here: type, manifold"]),
        ("train: {steps: many}", ["train.steps is the word 'many'", "a whole number"]),
        ("train: {steps: 1.5}", ["train.steps is the number 1.5", "a whole number"]),
        ("train: {steps: true}", ["train.steps is True", "a whole number"]),
        ("train: {learning_rate: fast}", ["train.learning_rate is the word 'fast'", "a number"]),
        ("policy: {manifold: 3}", ["policy.manifold is the number 3", "a word"]),
        ("evaluate: {nfe: 4}", ["evaluate.nfe is the number 4", "a list of int"]),
        ("evaluate: {nfe: [1, two]}", ["evaluate.nfe[1] is the word 'two'", "a whole number"]),
        ("train: {batch_size: 0}", ["train.batch_size=0; it is at least 1."]),
        ("env: {kwargs: 3}", ["env.kwargs is the number 3", "a mapping"]),
        ("train: 5", ["train is the number 5", "expected keys below it: demos"]),
        ("[1, 2]", ["the list [1, 2]", "sections"]),
        ("train: {steps: 5\n", ["is not valid YAML"]),
        ("train: {steps: 5, steps: 6}", ["the key steps stands twice"]),
        ("!!python/object/apply:os.system [true]", ["is not valid YAML"]),
    ],
)
def test_what_is_unknown_or_of_a_wrong_type_is_named(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load([path])
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml does not exist; expected a YAML file"):
        load([tmp_path / "nothing.yaml"])


def test_an_empty_file_or_section_changes_nothing(tmp_path):
    assert load([write(tmp_path, "# nothing\n"), write(tmp_path, "train:\n", "y.yaml")]) == Config()


def test_yaml_of_a_config_loads_to_the_same_config(tmp_path):
    config = load(CONFIGS)
    assert load([write(tmp_path, to_yaml(asdict(config)))]) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_ours_loads_and_says_what_it_is_for(path):
    assert path.read_text().startswith("# ")
    config = leaves(asdict(load([path])))
    stated = leaves(yaml.safe_load(path.read_text()))
    assert stated.keys() <= config.keys()


def test_the_policy_configs_differ_from_each_other():
    policies = [load([path]).policy for path in CONFIGS if path.parent.name == "policy"]
    assert len(set(policies)) == len(policies) >= 4
