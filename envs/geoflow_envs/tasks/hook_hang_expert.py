"""The expert of HookHang: grasp the handle from above, come down over a hook's tip, let go below it."""

from __future__ import annotations

import numpy as np

from .. import poses
from ..poses import Array
from .hook_hang import (
    FLIP,
    HANDLE,
    HANG_DEPTH,
    HEIGHT,
    LENGTH,
    MODES,
    ROD,
    TUBE,
    VIA,
    HookHang,
    HookState,
    Mode,
    grasp,
    handle_middle,
    seat_on,
)
from .motion import CLOSE, Expert, Obstacle, insert, release
from .motion import grasp as close_in

RELEASE_DEPTH = 0.030  # of the ring under the tip where the hand lets go [m]
_OVER = 0.13  # how high above a hook's root a hand passes [m]


class HookExpert(Expert):
    """Hangs the ring on the mode's hook with the handle in the mode's direction; picks it up again if it falls."""

    task: HookHang

    def decide(self, state: HookState) -> tuple[Array, float]:
        """The TCP pose to command and the gripper command."""
        held = self._held(state)
        on = self.task.on_hook(state)
        if on is not None and (not held or on[1] > RELEASE_DEPTH):
            return release(state.tcp, state.opening, float(HANDLE[1]))
        return self._hang(state) if held else self._grasp(state)

    def _hang(self, state: HookState) -> tuple[Array, float]:
        T_ring_tcp = poses.between(state.ring, state.tcp)
        below = bool(T_ring_tcp[2] < 0)
        if self.mode is None:
            modes = self.task.feasible_hooks(state) or MODES
            self.mode = self.choose(modes, lambda mode: _turning(state, mode, state.tcp, below))
        ring = poses.compose(state.ring, FLIP) if below else state.ring
        mouth = poses.compose(state.hooks[self.mode.hook], poses.pose((0, 0, LENGTH), (0, 0, self.mode.roll)))
        radius = self.task.radius
        box = np.array([handle_middle(radius) + HANDLE[0], radius + 2 * TUBE, HEIGHT])
        others = [Obstacle(hook, _OVER) for index, hook in enumerate(state.hooks) if index != self.mode.hook]
        return insert(state.tcp, ring, mouth, box, HANG_DEPTH, radius - ROD, VIA, others), CLOSE

    def _grasp(self, state: HookState) -> tuple[Array, float]:
        below = self.task.below(state)
        if self.mode is None:
            modes = self.task.feasible_modes(state) or MODES
            self.mode = self.choose(
                modes, lambda mode: _turning(state, mode, self._at_ring(state, mode, below), below)
            )
        at = self._at_ring(state, self.mode, below)
        obstacles = [Obstacle(hook, _OVER) for hook in state.hooks]
        return close_in(state.tcp, state.opening, at, float(HANDLE[1]), obstacles)

    def _at_ring(self, state: HookState, mode: Mode, below: bool) -> Array:
        return poses.compose(state.ring, grasp(self.task.radius, below, mode.swap))

    def _held(self, state: HookState) -> bool:
        """Whether the pads press on the handle's sides, by geometry alone."""
        T = poses.between(state.ring, state.tcp)
        along = abs(T[0] - handle_middle(self.task.radius))
        return bool(
            abs(poses.rotate(T, (0, 1, 0))[1]) > 0.95
            and state.opening < HANDLE[1] + 0.0025
            and along < HANDLE[0]
            and abs(T[1]) < 0.006
            and abs(T[2]) < 0.015
        )


def _turning(state: HookState, mode: Mode, at_ring: Array, below: bool) -> float:
    """How far the hand turns: to the grasp, and from there to the hook [rad]."""
    T_ring_tcp = poses.between(state.ring, at_ring)
    held = poses.compose(FLIP, T_ring_tcp) if below else T_ring_tcp
    hanging = poses.compose(seat_on(state.hooks[mode.hook], mode.roll), held)
    return poses.norm(poses.rotvec(state.tcp, at_ring)) + poses.norm(poses.rotvec(at_ring, hanging))
