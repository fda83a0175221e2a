"""The expert of RackSlot: grasps the handle, stands the blade into the chosen slot and lets go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import poses
from ..poses import Array
from .motion import CLOSE, Expert, Obstacle, across, grasp, grips, insert, release
from .rack import DEPTH, FLIPS, GRASPS, HANDLE, HANDLE_HEIGHT, PLATE, VIA, Mode, State

if TYPE_CHECKING:
    from .rack import RackSlot

OVER, AROUND = 0.17, 0.16  # of the hand above the rack where it passes, and how near that is [m]
RELEASE_DEPTH = 0.037  # a held plate is pushed at least this deep [m]


class RackExpert(Expert):
    """Grasps the plate by its handle, inserts it into a slot and lets go."""

    def __init__(self, env: RackSlot, choice: str = "greedy", seed: int | None = None) -> None:
        """`choice`: "greedy" or "random" (seeded by `seed`); raises ValueError for another."""
        super().__init__(env, choice, seed)
        self.env = env

    def decide(self, state: State) -> tuple[Array, float]:
        held, stands = _held(state), self.env.fit(state)
        if self.env.seated(stands) and (not held or stands.depth > RELEASE_DEPTH):
            return release(state.tcp, state.opening, HANDLE[across(poses.between(state.plate, state.tcp))])
        return (self._insert(state), CLOSE) if held else self._grasp(state)

    def _insert(self, state: State) -> Array:
        if self.mode is None:
            modes = self.env.feasible_insertions(state) or (
                Mode(1, 0, poses.between(state.plate, state.tcp)),
            )
            self.mode = self.choose(modes, lambda mode: self._turning(state, mode))
        plate = poses.compose(state.plate, FLIPS[self.mode.flip])
        mouth = self.env.slot(state, self.mode.slot)
        return insert(state.tcp, plate, mouth, PLATE, DEPTH, self.env.clearance, VIA)

    def _grasp(self, state: State) -> tuple[Array, float]:
        if self.mode is None or _approach_height(state, self.mode.T_plate_tcp) > -0.2:
            modes = self.env.feasible_modes(state) or _most_from_above(state)
            self.mode = self.choose(modes, lambda mode: self._turning(state, mode))
        at = poses.compose(state.plate, self.mode.T_plate_tcp)
        half = HANDLE[across(self.mode.T_plate_tcp)]
        return grasp(state.tcp, state.opening, at, half, [Obstacle(state.rack, OVER, AROUND)])

    def _turning(self, state: State, mode: Mode) -> float:
        """How far the hand turns to the grasp and from there to the seat [rad]."""
        at = poses.compose(state.plate, mode.T_plate_tcp)
        T_seat_tcp = poses.compose(FLIPS[mode.flip], mode.T_plate_tcp)
        seat = poses.compose(self.env.slot(state, mode.slot), T_seat_tcp)
        return poses.norm(poses.rotvec(state.tcp, at)) + poses.norm(poses.rotvec(at, seat))


def _most_from_above(state: State) -> tuple[Mode, ...]:
    best = min(GRASPS, key=lambda T_plate_tcp: _approach_height(state, T_plate_tcp))
    return tuple(Mode(slot, flip, best) for slot in range(3) for flip in range(len(FLIPS)))


def _approach_height(state: State, T_plate_tcp: Array) -> float:
    """z of the hand's approach direction at a grasp: -1 straight from above."""
    return float(poses.rotate(poses.compose(state.plate, T_plate_tcp), (0, 0, 1))[2])


def _held(state: State) -> bool:
    T_plate_tcp = poses.between(state.plate, state.tcp)
    span = (HANDLE_HEIGHT - HANDLE[2], HANDLE_HEIGHT + HANDLE[2])
    return grips(T_plate_tcp, state.opening, HANDLE, span)
