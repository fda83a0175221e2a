"""What tasks are told: sentences that fit, goals that bind the expert and the verdict, scenes that do not change."""

from __future__ import annotations

from typing import Any

import geoflow_envs
import gymnasium as gym
import numpy as np
import pytest
from geoflow_envs.instructions import LENGTH, NOT_AS_TOLD, encode

TOLD = ("KeyTurn", "RackSlot", "HookHang")


def make(task: str, **kwargs: Any) -> Any:
    return gym.make(f"geoflow_envs:geoflow/{task}-v0", disable_env_checker=True, **kwargs).unwrapped


def play(env: Any, expert: Any) -> dict[str, Any]:
    """Act until the end; the last info."""
    for _ in range(1000):
        _, _, terminated, _, info = env.step(expert.act())
        if terminated:
            return info
    raise AssertionError("the episode did not end")


@pytest.mark.parametrize("name", list(geoflow_envs.TASKS))
def test_every_sentence_fits_and_stands_for_one_thing(name: str) -> None:
    task = type(gym.make(f"geoflow_envs:{name}", disable_env_checker=True).unwrapped)
    sentences = [*task.sentences, *(sentence for goal in task.goals for sentence in goal)]  # type: ignore[attr-defined]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        code = encode(sentence)
        assert code.shape == (LENGTH,)
        assert bytes(code).rstrip(b"\0").decode() == sentence


def test_a_sentence_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {LENGTH} bytes; .* has 50"):
        encode("a" * 50)


@pytest.mark.parametrize("task", TOLD)
def test_an_expert_does_what_the_scene_is_told(task: str) -> None:
    env, told = make(task, instruction="goal", level=0), []
    for seed in range(4):
        observation, start = env.reset(seed=seed)
        said = bytes(observation["instruction"]).rstrip(b"\0").decode()
        assert said == start["instruction"]
        assert said in env.goals[start["told"]]
        end = play(env, env.expert("random", seed))
        assert end["is_success"]
        assert env.goal_at(env.state()) == end["told"] == start["told"]
        told.append(end["told"])
    assert len(set(told)) > 1


@pytest.mark.parametrize("task", TOLD)
def test_an_instruction_leaves_the_scene_as_it_is(task: str) -> None:
    plain = make(task).reset(seed=3)[0]
    for instruction in ("task", "goal"):
        env = make(task, instruction=instruction)
        told = env.reset(seed=3)[0]
        assert env.observation_space.contains(told)
        assert told.keys() - plain.keys() == {"instruction"}
        for name, x in plain.items():
            np.testing.assert_array_equal(told[name], x)


def test_another_end_than_was_told_is_a_failure() -> None:
    """The expert of a lock that is told the other sense turns it open, and that is wrong."""
    made = gym.make("geoflow_envs:geoflow/KeyTurn-v0", disable_env_checker=True, instruction="goal", level=0)
    _, start = made.reset(seed=1)
    env: Any = made.unwrapped
    asked = env.told
    env.told = 1 - asked
    expert = env.expert()
    for _ in range(20):  # by then it has chosen
        made.step(expert.act())
    env.told = asked
    end = play(made, expert)
    assert not end["is_success"]
    assert end["failure"] == NOT_AS_TOLD
    assert end["told"] == start["told"]


def test_something_else_can_be_said_than_is_asked_for() -> None:
    for said in ("turn the key to the left", ""):
        env, right = make("KeyTurn", instruction="goal", said=said), make("KeyTurn", instruction="goal")
        (observation, info), (_, asked) = env.reset(seed=2), right.reset(seed=2)
        assert bytes(observation["instruction"]).rstrip(b"\0").decode() == said
        assert info["told"] == asked["told"]
    with pytest.raises(ValueError, match="observed with instruction='task' or 'goal'"):
        make("KeyTurn", said="turn the key to the left")


@pytest.mark.parametrize(("task", "instruction"), [("WireLoop", "goal"), ("KeyTurn", "left")])
def test_an_instruction_that_a_task_does_not_have_is_refused(task: str, instruction: str) -> None:
    with pytest.raises(ValueError, match=f"instruction must be one of 'none', 'task'.*got '{instruction}'"):
        make(task, instruction=instruction)
