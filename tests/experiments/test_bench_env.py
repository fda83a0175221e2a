"""What a task costs: the clock counts what it should, goals are judged, names are found."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from geoflow.experiments.bench_env import GOALS, Clocked, Cost, bench_env
from geoflow.experiments.config import EnvConfig
from geoflow.experiments.environments import make_env
from geoflow.experiments.task_names import known_tasks, task_id

GOOD = Cost("Lab/Peg-v0", "free", 1, 4, 4, 400, 3000.0, 2100.0, 0.7, 60.0, 0.2, 3.0, 4.0, 0.01, 2.0, 1.0)


class Working(gym.Wrapper):
    """Spends CPU time in reset and step, so that a clock has something to see."""

    def reset(self, **kwargs: Any) -> Any:
        burn(0.004)
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        burn(0.008)
        return self.env.step(action)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_clock_counts_each_reset_and_step_and_not_the_keeping_of_states():
    env = Clocked(Working(make_env(EnvConfig(task_id("TiltedPegInsert"), {"level": 0}))))
    env.reset(seed=0)
    base: Any = env.unwrapped
    expert = base.expert()
    for _ in range(11):
        env.step(expert.act())
    assert len(env.resets) == 1
    assert len(env.steps) == 11
    assert len(env.states) == 3
    assert len(env.inside) == 3
    assert all(0 < inside < step - 0.008 for inside, step in zip(env.inside, env.steps[::5], strict=True))
    assert env.resets[0] >= 0.004
    assert min(env.steps) >= 0.008
    assert 0 < env.unclocked < sum(env.steps)
    env.close()


def test_kept_states_are_those_the_steps_start_from():
    """Stepping from a kept state is stepping from where the episode was: the same positions, bit for bit."""
    import mujoco

    kind: Any = mujoco.mjtState.mjSTATE_INTEGRATION  # type: ignore[attr-defined]
    env = Clocked(make_env(EnvConfig(task_id("KeyTurn"), {"level": 0})))
    env.reset(seed=1)
    base: Any = env.unwrapped
    action = base.expert().act()
    env.step(action)
    after = base.data.qpos.copy()
    env.reset(seed=1)
    np.testing.assert_array_equal(env.states[0].shape, (mujoco.mj_stateSize(base.model, kind),))  # type: ignore[attr-defined]
    base.data.qpos[:] = 0
    mujoco.mj_setState(base.model, base.data, env.states[0], kind)  # type: ignore[attr-defined]
    env.step(action)
    np.testing.assert_array_equal(base.data.qpos, after)
    env.close()


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"share_of_physics": 0.59}, ["share_of_physics"]),
        ({"times_real_time": 50.0, "reset_ms_median": 5.0}, []),
        ({"reset_ms_median": 5.1, "cpu_minutes_per_1000": 4.2}, ["reset_ms_median", "cpu_minutes_per_1000"]),
        ({"frame_ms": None, "cpu_minutes_per_1000": None}, []),
    ],
    ids=str,
)
def test_goals_are_judged(change: dict[str, Any], missed: list[str]):
    assert replace(GOOD, **change).missed() == missed


def test_a_table_and_a_record_with_provenance(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = bench_env(tmp_path / "env.json", ["WireLoop"], ["free"], 0, episodes=1, resets=2, frames=False)
    content = json.loads(out.read_text())
    (record,) = content["records"]
    assert {"command", "commit", "versions", "hardware", "goals"} <= set(content)
    assert set(content["goals"]) == set(GOALS)
    assert (record["task"], record["robot"], record["episodes"]) == ("geoflow/WireLoop-v0", "free", 1)
    assert record["frame_ms"] is None
    # Both rates are of the same control step, so the share and real time follow from what was measured.
    share = record["env_steps_per_s"] / record["physics_steps_per_s"]
    assert record["share_of_physics"] == pytest.approx(share)
    assert 0 < record["share_of_physics"] < 1.2
    assert 0 < record["time_in_physics"] < 1
    assert record["times_real_time"] < record["env_steps_per_s"] / 20
    table = capsys.readouterr().out
    assert "WireLoop" in table
    assert "84 px" in table


def test_tasks_without_physics_or_episodes_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"tests/Reach-v0' has no env.unwrapped.model .* give one of Tilted"):
        bench_env(tmp_path / "x.json", ["tests.reach_env:tests/Reach-v0"], frames=False)
    with pytest.raises(ValueError, match="episodes=0, resets=50; both are 1 or more"):
        bench_env(tmp_path / "x.json", episodes=0)
    assert not (tmp_path / "x.json").exists()


def test_names_of_tasks():
    full = "geoflow_envs:geoflow/TiltedPegInsert-v0"
    assert known_tasks()["TiltedPegInsert"] == full
    assert {task_id(name) for name in ("TiltedPegInsert", "geoflow/TiltedPegInsert-v0", full)} == {full}
    assert task_id("Pendulum-v1") == "Pendulum-v1"
    assert task_id("my_lab.envs:Lab/Peg-v0") == "my_lab.envs:Lab/Peg-v0"
    with pytest.raises(
        ValueError, match=r"unknown task 'tiltedpeg'; did you mean TiltedPegInsert\? Known are .*KeyTurn"
    ):
        task_id("tiltedpeg")
    with pytest.raises(ValueError, match=r"unknown task 'qqq'; Known are"):
        task_id("qqq")
