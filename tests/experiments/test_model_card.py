"""The model card says which tasks the demonstrations were of, and how they were made."""

from dataclasses import asdict

from geoflow.experiments.config import Config, EnvConfig
from geoflow.experiments.model_card import model_card

TASKS = [
    {"env_id": "lab/Peg-v0", "env_kwargs": {"level": 2, "robot": "arm"}},
    {"env_id": "lab/Key-v0", "env_kwargs": {}},
]


def card(tasks):
    config = asdict(Config(env=EnvConfig("lab/Peg-v0", {"level": 1})))
    spec = {"kinds": {"tcp": "pose"}, "control_hz": 20.0, "tasks": tasks}
    return model_card(
        "peg", {"config": config, "spec": spec, "parameters": 7, "train_seconds": 1.0, "seed": 0}
    )


def test_every_task_is_named_as_its_demonstrations_were_made():
    assert "for `lab/Peg-v0` (level=2, robot=arm) and `lab/Key-v0` (defaults)." in card(TASKS)


def test_without_them_it_is_the_task_that_was_asked_for():
    assert "for `lab/Peg-v0` (level=1)." in card([])
