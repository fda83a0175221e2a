"""A tiny task for tests: bring a floating pose onto a target pose. It obeys the contract of geoflow's tasks.

Made with ``gym.make("tests.reach_env:tests/Reach-v0")``; it needs no simulator and steps in microseconds.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from scipy.spatial.transform import Rotation

CONTROL_HZ = 20
DISTANCE, ANGLE = 0.02, 0.2
"""Largest motion of one step: metres, radians."""


def compose(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """T_ac = T_ab T_bc, poses x y z qw qx qy qz."""
    rotation = _rotation(a)
    return _pose(a[:3] + rotation.apply(b[:3]), rotation * _rotation(b))


def inverse(a: np.ndarray) -> np.ndarray:
    """T_ba of T_ab."""
    rotation = _rotation(a).inv()
    return _pose(-rotation.apply(a[:3]), rotation)


def towards(a: np.ndarray, b: np.ndarray, distance: float, angle: float) -> np.ndarray:
    """From ``a`` to ``b``, by at most so much [m], [rad]."""
    way, turn = b[:3] - a[:3], (_rotation(a).inv() * _rotation(b)).as_rotvec()
    part = min(1.0, distance / max(float(np.linalg.norm(way)), 1e-9))
    share = min(1.0, angle / max(float(np.linalg.norm(turn)), 1e-9))
    return _pose(a[:3] + part * way, _rotation(a) * Rotation.from_rotvec(share * turn))


def _rotation(a: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.roll(a[3:7], -1))


def _pose(position: np.ndarray, rotation: Rotation) -> np.ndarray:
    quaternion = np.roll(rotation.as_quat(), 1)
    return np.concatenate([position, quaternion if quaternion[0] >= 0 else -quaternion])


class Reach(gym.Env):
    """Reach within ``tolerance`` [m] and ten times as many radians, gripper closed, and stay for ``hold`` steps.

    Args:
        tolerance: How near [m].
        steps: What an episode may take.
        clumsy: Share of scenes that the expert gets wrong, for tests of failures.
        pause: Seconds that a step takes, for tests that interrupt.
        crash: Kill the process at the reset of this seed.
    """

    metadata = {"render_modes": [], "render_fps": CONTROL_HZ}  # noqa: RUF012 (gymnasium's interface)
    control_hz = CONTROL_HZ
    observation_kinds = {"tcp": "pose", "gripper": "vector", "target": "pose"}  # noqa: RUF012
    camera_places = {"target": [1.0, 0.0, 0.9, 0.7, 0.0, 0.7, 0.0, 45.0]}  # noqa: RUF012 (as if a camera saw it)

    def __init__(
        self,
        tolerance: float = 0.01,
        steps: int = 60,
        hold: int = 1,
        clumsy: float = 0.0,
        pause: float = 0.0,
        crash: int = -1,
        render_mode: str | None = None,
    ) -> None:
        self.tolerance, self.steps, self.hold, self.clumsy = tolerance, steps, hold, clumsy
        self.pause, self.crash, self.render_mode = pause, crash, render_mode
        low = np.array([-2, -2, -2, -1, -1, -1, -1, -1], np.float32)
        self.action_space = gym.spaces.Box(low, -low, dtype=np.float32)
        pose = gym.spaces.Box(low[:7], -low[:7], dtype=np.float32)
        gripper = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = gym.spaces.Dict({"tcp": pose, "gripper": gripper, "target": pose})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None and seed == self.crash:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)
        self._tcp = _pose(
            self.np_random.uniform(-0.1, 0.1, 3), Rotation.from_rotvec(self.np_random.normal(size=3) * 0.2)
        )
        turn = self.np_random.normal(size=3)
        self._target = _pose(
            self.np_random.uniform(-0.15, 0.15, 3), Rotation.from_rotvec(0.8 * turn / np.linalg.norm(turn))
        )
        self.wrong = bool(self.np_random.uniform() < self.clumsy)
        self._gripper, self._count, self._held = -1.0, 0, 0
        return self._observation(), {"mode_count": 1}

    def step(self, action: np.ndarray) -> Any:
        if self.pause:
            import time

            time.sleep(self.pause)
        action = np.asarray(action, np.float64)
        if (
            action.shape != (8,)
            or not np.isfinite(action).all()
            or not 0.9 < np.linalg.norm(action[3:7]) < 1.1
        ):
            raise ValueError(f"expected a pose with a unit quaternion and a gripper command, got {action}")
        self._tcp = towards(self._tcp, action[:7], DISTANCE, ANGLE)
        self._gripper = float(np.clip(action[7], -1, 1))
        self._count += 1
        near = self._distance() < self.tolerance and self._angle() < 10 * self.tolerance and self._gripper > 0
        self._held = self._held + 1 if near else 0
        success = self._held >= self.hold
        truncated = not success and self._count >= self.steps
        failure = ("" if self._gripper > 0 else "no_grasp") or "misaligned"
        info = {"is_success": success, "failure": failure if truncated else "", "mode": 0}
        return self._observation(), float(success), success, truncated, info

    def expert(self, choice: str = "greedy", seed: int | None = None) -> Expert:
        """The scripted expert, closed loop."""
        return Expert(self)

    def _observation(self) -> dict[str, np.ndarray]:
        values = {"tcp": self._tcp, "gripper": np.array([self._gripper]), "target": self._target}
        return {name: value.astype(np.float32) for name, value in values.items()}

    def _distance(self) -> float:
        return float(np.linalg.norm(self._target[:3] - self._tcp[:3]))

    def _angle(self) -> float:
        return (_rotation(self._tcp).inv() * _rotation(self._target)).magnitude()


class Expert:
    """Walks straight to the target, and closes the gripper when it is near."""

    def __init__(self, env: Reach) -> None:
        self._env = env

    def act(self) -> np.ndarray:
        """The action (8,) for the present state."""
        env = self._env
        pose = towards(env._tcp, env._target, DISTANCE, ANGLE)
        gripper = 1.0 if env._distance() < 0.05 and not env.wrong else -1.0
        return np.append(pose, gripper).astype(np.float32)


gym.register("tests/Reach-v0", entry_point=f"{__name__}:Reach")
