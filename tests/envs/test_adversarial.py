"""No action breaks a task: a share of what `python scripts/stress.py` does with 10 000 actions a task and robot."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geoflow_envs
import geoflow_envs.tasks.base as base
import mujoco
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("stress", ROOT / "scripts/stress.py")
assert SPEC is not None
assert SPEC.loader is not None
stress = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = stress
SPEC.loader.exec_module(stress)

WIRE = "geoflow/WireLoop-v0"  # its episodes end soon: the wire must not be touched
PAIRS = [(name, robot) for name in geoflow_envs.TASKS for robot in stress.robots(name)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "robot"), PAIRS)
def test_adversarial_actions_are_refused_or_leave_a_valid_state(name: str, robot: str) -> None:
    record = stress.run(name, robot, 1200, seed=1)
    assert record["actions"] == 1200
    assert record["refused"] > 30
    assert record["episodes"] > 0


def test_every_attack_makes_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attack alone: nonsense is always refused, everything else is always taken."""
    for attack in stress.ATTACKS:
        monkeypatch.setattr(stress, "ATTACKS", (attack,))
        account = stress.stress(WIRE, "free", 30)
        assert account.refused == (30 if attack is stress.nonsense else 0)


def careless(action: Any, arms: int = 1) -> np.ndarray:
    """An action as it comes."""
    return np.nan_to_num(np.resize(np.asarray(action, float), 8 * arms))


def silently_reset(task: Any) -> Callable[..., Any]:
    """What MuJoCo does after an instability, unless one looks at its warnings."""
    follow = task.robot.obey

    def obey(data: Any, action: np.ndarray) -> None:
        follow(data, action)
        mujoco.mj_resetData(task.model, data)

    return obey


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda monkey: monkey.setattr(base, "checked_action", careless),
            "no action was taken for one|shape",
        ),
        (
            lambda monkey: monkey.setattr(base.PoseTask, "failure_kind", lambda self: ""),
            "an end without a name",
        ),
        (
            lambda monkey: _after_init(
                monkey, lambda task: setattr(task.robot, "obey", silently_reset(task))
            ),
            "a silent reset",
        ),
        (lambda monkey: monkey.setitem(stress.LIMITS, "speed", 0.01), "speed .*, more than 0.01"),
    ],
    ids=["accepts nonsense", "silent end", "silent reset", "fast"],
)
def test_the_stress_notices(monkeypatch: pytest.MonkeyPatch, spoil: Any, message: str) -> None:
    """What it looks for is found where it is."""
    spoil(monkeypatch)
    with pytest.raises(stress.BrokenError, match=message):
        stress.stress(WIRE, "free", 400)


def _after_init(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    make = base.PoseTask.__init__

    def changed(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        change(self)

    monkeypatch.setattr(base.PoseTask, "__init__", changed)


def test_the_committed_result_is_of_10_000_actions_each() -> None:
    """docs/results/stress.json."""
    report = json.loads((ROOT / "docs/results/stress.json").read_text())
    found = {(record["task"], record["robot"]): record for record in report["records"]}
    assert set(found) == set(PAIRS)
    for record in found.values():
        assert record["actions"] == 10_000
        assert record["refused"] > 300
        assert all(value < report["limits"][key] for key, value in record["most"].items())
