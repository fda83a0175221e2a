"""Rollouts: a block of scenes, stepped together in a vector env, one policy batched over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from geoflow.experiments.config import EnvConfig
from geoflow.experiments.disturbance import Disturbance
from geoflow.experiments.environments import arms_of, cameras_of, knob, make_env
from geoflow.experiments.smoothness import Jumps
from geoflow.policies.base import Policy
from geoflow.policies.execution import Execution, Executor

BLOCK = 10
"""Scenes stepped together. Blocks are the same for any number of processes, and so are the results."""

UNKNOWN = "unknown"
"""What demonstrations say that were converted from a file that does not name its task."""

PLACED = 1e-3
"""How far a camera may have been moved [m, and parts of a quaternion or of a degree]: rounding."""

_TRANSFER = "To see what it does there all the same, say so: --transfer, or transfer=True."

FAILURES = {
    "no_grasp": "no grasp",
    "dropped": "dropped",
    "misaligned": "misaligned",
    "not_deep_enough": "not deep enough",
    "physics": "physics warning",
    "not_as_told": "not as told",
    "invalid_action": "invalid action",
    "unnamed": "unnamed",
}
"""Failure kind -> words. `invalid_action`: the policy gave NaN; `unnamed`: the task does not say."""


@dataclass(frozen=True)
class Episode:
    """How one scene ended.

    Attributes:
        seed: The seed the scene was reset with.
        success: Whether the task said so at the last step.
        steps: Environment steps taken.
        failure: "" or why not, in the task's words.
        mode: Which of the symmetric solutions was nearest at the end; -1 where the task has none.
        final: The task's last info, what of it is a number or a word.
    """

    seed: int
    success: bool
    steps: int
    failure: str
    mode: int
    final: dict[str, Any]


@dataclass(frozen=True)
class Solver:
    """How chunks are sampled: network evaluations, and by which method."""

    nfe: int
    name: str


class Freeze(gym.Wrapper):
    """Holds an env at its last observation once its episode is over, while its neighbours go on.

    A vector env would otherwise reset it, and spend steps on scenes that nobody asked for.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.over = True
        self.steps = 0
        self.last_info: dict[str, Any] = {}

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._obs, self.last_info = self.env.reset(**kwargs)
        self.over, self.steps = False, 0
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, unless the episode is over; an action that is not finite ends it."""
        if not self.over and not np.isfinite(action).all():
            self.over, self.last_info = True, {"is_success": False, "failure": "invalid_action"}
        if not self.over:
            self._obs, _, terminated, truncated, self.last_info = self.env.step(action)
            self.steps += 1
            self.over = terminated or truncated
        return self._obs, 0.0, False, False, {}


def make_block(env: EnvConfig, size: int = BLOCK) -> SyncVectorEnv:
    """A vector env for up to ``size`` scenes at once."""
    return SyncVectorEnv([lambda: Freeze(make_env(env))] * size, autoreset_mode=AutoresetMode.DISABLED)


def check_env(env: gym.Env, policy: Policy, config: EnvConfig, *, transfer: bool = False) -> None:
    """Raise ValueError where a policy cannot act in the env of a config, or was not trained for it.

    Args:
        env: The env.
        policy: The policy.
        config: What the env was made from.
        transfer: Whether it may be another task or robot than the policy was trained on.
    """
    name, spec = config.id, policy.spec
    spaces = env.observation_space.spaces if isinstance(env.observation_space, gym.spaces.Dict) else {}
    offered = {}
    for key, space in spaces.items():
        if space.shape is None:
            raise ValueError(
                f"env {name!r} observes {key!r} as {space}; expected arrays, a Box each: a text as its bytes, filled "
                "up with zeros."
            )
        offered[key] = tuple(space.shape)
    seen = spec.task(name).observations if spec.several and not transfer else spec.shapes
    needed = set(seen) - set(policy.config.optional) - (set(spec.partial) if transfer else set())
    trained = {key: tuple(shape) for key, shape in spec.shapes.items() if key in needed}
    if {key: offered.get(key) for key in trained} != trained:
        raise ValueError(
            f"env {name!r} offers the observations {_shapes(offered) if spaces else env.observation_space}; "
            f"the policy was trained on {_shapes(trained)} of {spec.env_id!r}, and needs them."
        )
    if env.action_space.shape != (policy.spec.action_dim,):
        raise ValueError(
            f"env {name!r} takes actions of shape {env.action_space.shape}; the policy was trained to give "
            f"({policy.spec.action_dim},): {_layout(policy)}."
        )
    if arms_of(env) != policy.arms:
        raise ValueError(
            f"env {name!r} takes the poses of {arms_of(env)} arms; the policy was trained to give {_layout(policy)}."
        )
    rate = getattr(env.unwrapped, "control_hz", policy.spec.control_hz)
    if float(rate) != float(policy.spec.control_hz):
        raise ValueError(
            f"env {name!r} runs at {rate:g} actions a second; the policy was trained at "
            f"{policy.spec.control_hz:g}, and needs an env of that rate."
        )
    if not transfer:
        _check_trained_for(env, policy, config)


def _check_trained_for(env: gym.Env, policy: Policy, config: EnvConfig) -> None:
    """Raise ValueError for another task or robot; observations alone do not tell one from the other."""
    spec = policy.spec
    known = {task.env_id for task in spec.tasks} or {spec.env_id}
    if not {name.rpartition(":")[2] for name in known} & {config.id.rpartition(":")[2], UNKNOWN}:
        raise ValueError(
            f"env {config.id!r}: the policy was trained on {', '.join(sorted(known))}. {_TRANSFER}"
        )
    tasks = spec.trained_on(config.id)
    robot, robots = knob(env, config.kwargs, "robot"), {knob(env, task.env_kwargs, "robot") for task in tasks}
    if robots and robot not in robots:
        known = " and ".join(sorted(map(repr, robots)))
        raise ValueError(
            f"env {config.id!r} has the robot {robot!r}; the policy was trained on {known}. {_TRANSFER}"
        )
    for name, here in cameras_of(env).items():
        there = [task.cameras[name] for task in tasks if name in task.cameras]
        if there and not any(np.allclose(here, place, atol=PLACED) for place in there):
            stood = " or ".join(str(np.round(place, 3).tolist()) for place in there)
            raise ValueError(
                f"env {config.id!r} takes {name} from {np.round(here, 3).tolist()} (x y z qw qx qy qz, field of view); "
                f"the demonstrations were recorded from {stood}. Record them again. {_TRANSFER}"
            )


def run_block(
    block: SyncVectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    solver: Solver,
    execution: Execution,
    disturbance: float = 0.0,
) -> tuple[list[Episode], int, Jumps]:
    """Play the scenes ``seeds`` to their ends, count the chunks predicted, and see how their commands went on.

    Every scene draws its noise from a generator of its own, seeded like the scene, so all policies meet the
    same scenes and the same noise; and the same disturbances, at the share ``disturbance`` of all steps.
    """
    size = block.num_envs
    if len(seeds) > size:
        raise ValueError(f"{len(seeds)} scenes in a block of {size} envs; give at most {size} seeds.")
    padding = size - len(seeds)
    obs, _ = block.reset(seed=[*seeds, *[seeds[-1]] * padding])
    block.set_attr("over", [False] * len(seeds) + [True] * padding)
    past = policy.config.observation_steps
    window = {key: np.repeat(value[:, None], past, 1) for key, value in obs.items()}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    executor = Executor(policy, execution, size, nfe=solver.nfe, solver=solver.name)
    actions = np.tile(np.asarray(block.single_action_space.sample()), (size, 1))
    pushes = [Disturbance(disturbance, np.random.default_rng([seed, 1]), policy.arms) for seed in seeds]
    commands, taken_over = [], []
    while (live := np.flatnonzero(~np.array(block.get_attr("over")))).size:
        present = {key: torch.from_numpy(value[live]) for key, value in window.items()}
        actions[live] = executor.act(present, live, [generators[row] for row in live])
        commands.append(actions)
        taken_over.append(executor.taken_over)
        actions = actions.copy()
        for row in live:
            actions[row] = pushes[row].apply(actions[row])[0]
        obs, *_ = block.step(actions)
        window = {key: np.concatenate([window[key][:, 1:], obs[key][:, None]], 1) for key in window}
    lengths = block.get_attr("steps")[: len(seeds)]
    ends = zip(seeds, lengths, block.get_attr("last_info"), strict=False)
    played = np.stack(commands, axis=1)
    jumps = [
        Jumps.of(played[row, :n], np.array(taken_over[:n]), policy.arms) for row, n in enumerate(lengths)
    ]
    return [_episode(*end) for end in ends], executor.predicted, Jumps.together(jumps)


def _layout(policy: Policy) -> str:
    """An action in words."""
    poses = "a pose of 7 numbers" if policy.arms == 1 else f"{policy.arms} poses of 7 numbers"
    return f"{poses} and {policy.extras} more"


def _episode(seed: int, steps: int, info: Mapping[str, Any]) -> Episode:
    success = bool(info.get("is_success", False))
    failure = "" if success else str(info.get("failure") or "unnamed")
    final = {key: plain for key, value in info.items() if (plain := _plain(value)) is not None}
    return Episode(int(seed), success, int(steps), failure, int(info.get("mode", -1)), final)


def _plain(value: Any) -> Any:
    """What of an info can stand in JSON: words, numbers, short vectors; NaN, which JSON lacks, as a word."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist() if value.size <= 16 else None
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str)) else None


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
