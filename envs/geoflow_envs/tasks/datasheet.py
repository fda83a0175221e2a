"""A task's docstring as a data sheet: the numbers of its code, and the tables that all tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import scene
from ..instructions import LENGTH, NOT_AS_TOLD
from ..robot import CONTROL_HZ, MAX_ANGULAR_SPEED, MAX_SPEED, WORKSPACE
from ..sensors import POINTS

if TYPE_CHECKING:
    from .base import PoseTask

_CAMERAS = ", ".join(f"`{name}`" for name in scene.CAMERAS)

_BOX = f"{WORKSPACE[0].tolist()} .. {WORKSPACE[1].tolist()}"
_POSE_ROWS = f"""| {{0}}-{{2}} | {{of}}TCP position | m, world, clipped to {_BOX} |
    | {{3}}-{{6}} | {{of}}TCP rotation, quaternion w x y z | world; norm 0.9 to 1.1, normalised |"""

_TCP = f"""The commanded pose moves toward the action by at most {MAX_SPEED:.2f} m/s and {MAX_ANGULAR_SPEED:.2f} rad/s.
    TCP: between the finger pads, z out of the hand, y along the closing direction (MJCF body """

_ROBOTS = {
    1: """Robots: `free`, a gripper that flies, and `panda`, a 7-DoF arm. `split="range"` draws
    positions outside those of training, `split="frame"` moves the whole scene by a rigid transform in the plane
    (`free`: 60 to 180 degrees about the table's middle, `panda`: 10 to 30 degrees about its base).""",
    2: """Robots: `free`, two grippers that fly. `split="range"` draws positions outside those of training,
    `split="frame"` moves the whole scene by a rigid transform in the plane, by 60 to 180 degrees about the table's
    middle.""",
}

_SEEN = f"""`observations="pixels"` gives {{tcps}}, `gripper` and what the `cameras` ({_CAMERAS}, {{wrists}}) see
    instead of the poses, "both" gives all: `<camera>_rgb` (H, W, 3) uint8 at `image_size`; with `depth=True`
    `<camera>_depth` (H, W, 1) float32 [m]; with `segmentation=True` `<camera>_segmentation` (H, W, 1) uint8
    (0 background, 1 table, 2 robot, 3 other, 4 and up the bodies of the table above, in its order); with
    `point_cloud=N` `{POINTS}` (N, 3) float32 [m, world]. `width`, `height` and `camera` ({_CAMERAS}) shape the
    frames of `render_mode="rgb_array"`."""


def _told(task: type[PoseTask[Any]]) -> str:
    """What a task can be told, where there are sentences for it."""
    if not task.sentences:
        return ""
    said = f"""\n\n    `instruction="task"` adds the observation `instruction`, ({LENGTH},) uint8, such as
    "{task.sentences[0]}"."""
    if task.goals:
        said += f""" With `instruction="goal"` it asks for one of {len(task.goals)} ends that can be reached, as
    "{task.goals[0][0]}": `info["told"]` is its number, and another end is the failure `{NOT_AS_TOLD}`."""
    return said


def _names(name: str, sides: Sequence[str]) -> str:
    return ", ".join(f"`{name}{side}`" for side in sides)


def _action_table(sides: Sequence[str]) -> str:
    """What each entry of an action is, for hands of these sides."""
    words = [side.replace("_", "") + " " if side else "" for side in sides]
    rows = [_POSE_ROWS.format(*range(7 * arm, 7 * arm + 7), of=word) for arm, word in enumerate(words)]
    rows += [
        f"| {7 * len(sides) + arm} | {word}gripper | -1 opens, +1 closes |" for arm, word in enumerate(words)
    ]
    head = [
        f"Action, Box ({8 * len(sides)},), float32, at {CONTROL_HZ} Hz:\n",
        "| index | meaning | unit, frame |",
        "|---|---|---|",
    ]
    return "\n    ".join([*head, *rows]) + f"\n\n    {_TCP}{_names('hand', sides)})."


def _hand_rows(sides: Sequence[str]) -> str:
    """What is observed of hands of these sides."""
    rows = [
        f"| tcp{side} | 7 | TCP pose in the world (x y z qw qx qy qz, m) | body `hand{side}` |"
        for side in sides
    ]
    fingers = ", ".join(f"`finger_{finger}{side}`" for side in sides for finger in ("left", "right"))
    each = "finger opening" if len(sides) == 1 else "finger opening of each hand, left and right"
    rows.append(f"| gripper | {len(sides)} | {each}: -1 fully open, +1 closed | joints {fingers} |")
    return "\n    ".join(rows)


def datasheet(task: type[PoseTask[Any]], **numbers: object) -> None:
    """Fill a task's docstring with the numbers of its code and the tables that all tasks share."""
    sides = next(iter(task.robots.values())).sides
    task.__doc__ = (task.__doc__ or "").format(
        action=_action_table(sides),
        hand=_hand_rows(sides),
        knobs=f"{_ROBOTS[len(sides)]}\n\n    "
        + _SEEN.format(tcps=_names("tcp", sides), wrists=_names("wrist", sides))
        + _told(task),
        steps=task.steps,
        failures=", ".join(f"`{kind}`" for kind in task.failures),
        **numbers,
    )
