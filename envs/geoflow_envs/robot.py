"""Embodiments, one controller: free grippers (mocap + weld), one or two, and a 7-DoF arm (DH table, damped IK)."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf, sqrt

import mujoco
import numpy as np

from . import poses
from .kinematics import DH, HAND_FRAME, Arm, inside, link_frame
from .poses import Array
from .scene import FIRM_LIMIT, TIMESTEP, box

CONTROL_HZ = 20
SUBSTEPS = round(1 / (CONTROL_HZ * TIMESTEP))
BLOCKS = 5  # the target moves in this many small jumps within one control step
_PARTS = np.arange(1, BLOCKS + 1) / BLOCKS
MAX_SPEED = 0.4  # of the commanded TCP [m/s]
MAX_ANGULAR_SPEED = 2.2  # [rad/s]; faster swings ratchet a held object out of the grasp
_STEP = MAX_SPEED / CONTROL_HZ, MAX_ANGULAR_SPEED / CONTROL_HZ  # of the commanded TCP [m, rad]
MAX_LEAD, MAX_ANGULAR_LEAD = 0.05, 0.4  # of the commanded TCP before a hand that something holds up [m, rad]
MAX_OPENING = 0.04  # of each finger [m]
SQUEEZE = 0.03  # how far past contact a full closing command aims [m], so that the force limit acts
WORKSPACE = np.array([[0.2, -0.45, 0.008], [0.8, 0.45, 0.65]])  # box of TCP targets in the world [m]
CLEARANCE = 0.14  # of the arm's outer links from a socket or the like [m]
HOME = (0.45, 0.0, 0.38)  # TCP position at rest [m]

# Robot geoms meet the world but not each other: (2 & 1) | (2 & 1) == 0.
_ROBOT = {"contype": 2, "conaffinity": 1}
_PAD = {"friction": "1 .02 .0005", "condim": 4, "priority": 1, "material": "pad", "mass": 0.01, **_ROBOT}


def _finger(name: str, side: int) -> str:
    shaft = box((0.009, 0.006, 0.030), (0, side * 0.010, -0.025), material="finger", mass=0.05, **_ROBOT)
    pad = box((0.008, 0.002, 0.009), (0, side * 0.002, -0.002), name=f"{name}_pad", **_PAD)
    joint = (
        f'<joint name="{name}" type="slide" axis="0 {side} 0" range="0 {MAX_OPENING}" damping="60" '
        f'armature=".05" {FIRM_LIMIT}/>'
    )
    return f'<body name="{name}" gravcomp="1">{joint}{shaft}{pad}</body>'


def _hand(side: str = "") -> str:
    """A hand's geoms, camera and fingers; `side` ends their names.

    Its frame is the TCP: z points out of the hand (approach), y is the direction the fingers close in.
    """
    return (
        # The wrist camera looks over the hand at the finger tips; its upper edge is the hand's x.
        f'<camera name="wrist{side}" pos=".075 0 -.095" xyaxes="0 1 0 .848 0 .530" fovy="75"/>'
        + box((0.022, 0.055, 0.022), (0, 0, -0.078), material="shell", mass=0.45, **_ROBOT)
        + box((0.023, 0.040, 0.006), (0, 0, -0.054), material="joint", class_="visual")
        + '<geom type="cylinder" size=".030 .012" pos="0 0 -.112" material="joint" class="visual"/>'
        + _finger(f"finger_left{side}", 1)
        + _finger(f"finger_right{side}", -1)
    )


def _gripper_sections(side: str = "") -> tuple[str, ...]:
    left, right, grip = f"finger_left{side}", f"finger_right{side}", f"grip{side}"
    return (
        f'<tendon><fixed name="{grip}"><joint joint="{left}" coef=".5"/>'
        f'<joint joint="{right}" coef=".5"/></fixed></tendon>',
        f'<equality><joint joint1="{right}" joint2="{left}" solref=".005 1"/></equality>',
        f'<actuator><position name="{grip}" tendon="{grip}" kp="2000" ctrlrange="{-SQUEEZE} {MAX_OPENING}" '
        'forcerange="-80 80"/></actuator>',
    )


class Robot(ABC):
    """A gripper that follows rate-limited TCP poses; embodiments differ in how the target reaches the hand.

    The controller's only state is the commanded target: each control step moves it toward the action by
    at most `MAX_SPEED` and `MAX_ANGULAR_SPEED` within `WORKSPACE`, interpolated over the physics steps.
    """

    bodies: tuple[str, ...]
    sections: tuple[str, ...]
    fixed_base: bool
    sides: tuple[str, ...] = ("",)  # what ends the names of each hand and of its observations

    def __init__(self, model: mujoco.MjModel, side: str = "") -> None:
        self.model = model
        self.hand = model.body(f"hand{side}").id
        fingers = (f"finger_left{side}", f"finger_right{side}")
        self.fingers = np.array([model.joint(name).qposadr[0] for name in fingers])
        self.grip = model.actuator(f"grip{side}").id
        self.target = poses.IDENTITY.copy()

    def tcp(self, data: mujoco.MjData) -> Array:
        """TCP pose in the world, T_w_tcp."""
        return np.concatenate([data.xpos[self.hand], data.xquat[self.hand]])

    def opening(self, data: mujoco.MjData) -> float:
        """Mean distance of a finger pad from the hand's middle plane [m]."""
        left, right = self.fingers
        return 0.5 * float(data.qpos[left] + data.qpos[right])

    def reset(self, data: mujoco.MjData, T_w_tcp: Array, opening: float, command: float) -> None:
        """Put the hand at a pose with its fingers `opening` [m] apart from the middle, at rest."""
        data.qpos[self.fingers] = opening
        self._command_gripper(data, command)
        self.target = T_w_tcp.copy()
        self._place(data)

    def step(self, data: mujoco.MjData, T_w_tcp: Array, command: float) -> None:
        """One control step toward a TCP pose; `command` in [-1, 1], -1 opens the gripper and +1 closes it."""
        self._follow(data, self._aim(data, T_w_tcp, command))

    def obey(self, data: mujoco.MjData, action: Array) -> None:
        """One control step toward an action, a TCP pose and a command (8,)."""
        self.step(data, action[:7], action[7])

    def _aim(self, data: mujoco.MjData, T_w_tcp: Array, command: float) -> Array:
        """Move the target toward a pose, as fast as it may, and command the gripper; where the target was."""
        goal = T_w_tcp.copy()
        low, high = WORKSPACE  # np.clip takes several times as long for three numbers
        goal[:3] = np.minimum(np.maximum(goal[:3], low), high)
        start = self.target
        ahead = poses.advance(start, goal, *_STEP)
        self.target = poses.advance(start, self._within_lead(data, ahead), *_STEP)
        self._command_gripper(data, command)
        return start

    def _within_lead(self, data: mujoco.MjData, target: Array) -> Array:
        """The target, nearer where it is too far ahead: a hand that is held up does not press ever harder."""
        hand = self.tcp(data)
        ahead, turn = poses.norm(target[:3] - hand[:3]), poses.norm(poses.rotvec(hand, target))
        if ahead <= MAX_LEAD and turn <= MAX_ANGULAR_LEAD:
            return target
        return poses.advance(hand, target, MAX_LEAD, MAX_ANGULAR_LEAD)

    def _command_gripper(self, data: mujoco.MjData, command: float) -> None:
        middle, half = 0.5 * (MAX_OPENING - SQUEEZE), 0.5 * (MAX_OPENING + SQUEEZE)
        data.ctrl[self.grip] = middle - half * min(1.0, max(-1.0, command))

    @abstractmethod
    def _place(self, data: mujoco.MjData) -> None:
        """Put the hand at the target."""

    @abstractmethod
    def _follow(self, data: mujoco.MjData, start: Array) -> None:
        """Simulate one control step while the target moves from `start` to where it is now."""

    @abstractmethod
    def reachable(self, keys: Sequence[Array], obstacle: Array) -> bool:
        """Whether the hand can go by TCP poses in this order, from the first, where it was last commanded to.

        The arm behind the hand, if there is one, must keep `CLEARANCE` from `obstacle`, one or more points (n, 3) [m].
        """


# The free hand balances at its TCP, so that accelerating it does not tilt it.
_INERTIA = '<inertial pos="0 0 0" mass=".6" diaginertia=".004 .004 .003"/>'


def _free_bodies(side: str = "") -> tuple[str, ...]:
    return (
        f'<body name="target{side}" mocap="true"/>',
        f'<body name="hand{side}" gravcomp="1"><freejoint name="hand{side}_free"/>{_INERTIA}{_hand(side)}</body>',
    )


def _free_sections(side: str = "") -> tuple[str, ...]:
    return (
        *_gripper_sections(side),
        # A lower impedance leaves the dynamics of a free hand alone, and a blocked hand presses with 13 N per mm
        # instead of the default's 50, which would push the peg through the fingers.
        f'<equality><weld body1="target{side}" body2="hand{side}" solref=".015 1" solimp=".8 .8 .001"/></equality>',
    )


class FreeRobot(Robot):
    """A gripper welded to a mocap body: it goes wherever the target goes, 20 ms behind it."""

    fixed_base = False
    bodies = _free_bodies()
    sections = _free_sections()

    def __init__(self, model: mujoco.MjModel, side: str = "") -> None:
        super().__init__(model, side)
        self.mocap = model.body(f"target{side}").mocapid[0]
        self.joint = model.joint(f"hand{side}_free").qposadr[0]

    def _place(self, data: mujoco.MjData) -> None:
        data.qpos[self.joint : self.joint + 7] = self.target
        self._set_mocap(data, self.target)

    def _set_mocap(self, data: mujoco.MjData, T: Array) -> None:
        data.mocap_pos[self.mocap] = T[:3]
        data.mocap_quat[self.mocap] = T[3:]

    def _follow(self, data: mujoco.MjData, start: Array) -> None:
        for part in self._way(start):
            self._set_mocap(data, part)
            mujoco.mj_step(self.model, data, nstep=SUBSTEPS // BLOCKS)

    def _way(self, start: Array) -> Iterator[Array]:
        """Where the target is in each block of a control step, from `start` to where it is now."""
        step, omega = self.target[:3] - start[:3], poses.rotvec(start, self.target)
        for block in range(1, BLOCKS + 1):
            part = poses.integrate(start, omega * (block / BLOCKS))
            part[:3] += step * (block / BLOCKS)
            yield part

    def reachable(self, keys: Sequence[Array], obstacle: Array) -> bool:
        points = np.array(keys)[:, :3]  # the workspace is convex: what lies between is inside too
        return bool(((points >= WORKSPACE[0]) & (points <= WORKSPACE[1])).all())


class FreePair:
    """Two free grippers side by side, each as `FreeRobot` has it: poses (2, 7), openings (2,), the left one first."""

    fixed_base = False
    sides = ("_left", "_right")
    bodies = tuple(body for side in sides for body in _free_bodies(side))
    sections = tuple(section for side in sides for section in _free_sections(side))

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self.hands = tuple(FreeRobot(model, side) for side in self.sides)

    def tcp(self, data: mujoco.MjData) -> Array:
        """TCP poses in the world (2, 7)."""
        return np.stack([hand.tcp(data) for hand in self.hands])

    def opening(self, data: mujoco.MjData) -> Array:
        """Mean distance of each hand's finger pads from its middle plane (2,) [m]."""
        return np.array([hand.opening(data) for hand in self.hands])

    def reset(self, data: mujoco.MjData, T_w_tcp: Array, opening: Array, command: float) -> None:
        """Put the hands at poses with their fingers `opening` [m] apart from the middle, at rest."""
        for hand, T, half in zip(self.hands, T_w_tcp, opening, strict=True):
            hand.reset(data, T, half, command)

    def obey(self, data: mujoco.MjData, action: Array) -> None:
        """One control step toward an action (16,): two TCP poses, then two commands."""
        goals = zip(self.hands, action[:14].reshape(2, 7), action[14:], strict=True)
        ways = [hand._way(hand._aim(data, T, command)) for hand, T, command in goals]
        for parts in zip(*ways, strict=True):
            for hand, part in zip(self.hands, parts, strict=True):
                hand._set_mocap(data, part)
            mujoco.mj_step(self.model, data, nstep=SUBSTEPS // BLOCKS)

    def reachable(self, path: Sequence[Array], obstacle: Array) -> bool:
        """Whether a hand can go through TCP poses in this order: within the workspace, where nothing holds it up."""
        return self.hands[0].reachable(path, obstacle)


MAX_STEPS = 24  # of the arm to the next key pose
REACHED = 2e-3  # from a key pose, where a radian counts as `kinematics.RADIAN` metres [m]
# How far a joint may turn in one of them: more for less way means near a singularity.
SPARE_TURN, TURN_PER_METRE = 0.2, 6.0  # [rad], [rad/m]
MAX_LEGS = 1024  # of paths, remembered
_LIMITS, _PATH_LIMITS = inside(0.02), inside(0.1)  # where the arm may go, and where a task may need it
MAX_JOINT_STEP = 0.4  # of the arm in a control step [rad]; it takes more near a singularity, and out of reach
SERVO_LAG = 0.02  # of the arm behind its target [s], about the free hand's
_STIFFNESS = (3000, 3000, 3000, 2500, 2000, 1500, 1000)  # position gains [N m/rad]
_TORQUE = (87, 87, 87, 87, 12, 12, 12)  # [N m]
# Capsules per link in the link's frame: from, to, radius, mass, material.
_LINKS: tuple[tuple[tuple[Sequence[float], Sequence[float], float, float, str], ...], ...] = (
    (((0, 0, -0.19), (0, 0, -0.05), 0.062, 2.5, "shell"),),
    (((0, 0, -0.06), (0, 0, 0.06), 0.060, 1.5, "joint"), ((0, -0.03, 0), (0, -0.17, 0), 0.058, 1.5, "shell")),
    (
        ((0, 0, -0.13), (0.04, 0, -0.05), 0.056, 1.5, "shell"),
        ((0.03, 0, -0.04), (0.07, 0, 0), 0.05, 1, "shell"),
    ),
    (
        ((0, 0, -0.05), (0, 0, 0.05), 0.056, 1.5, "joint"),
        ((-0.03, 0.03, 0), (-0.08, 0.11, 0), 0.052, 1, "shell"),
    ),
    (
        ((0, 0, -0.25), (0, 0, -0.10), 0.052, 2.0, "shell"),
        ((0, 0.03, -0.08), (0, 0.06, -0.02), 0.04, 0.5, "shell"),
    ),
    (((0, 0, -0.05), (0, 0, 0.05), 0.048, 1.0, "joint"), ((0.02, 0, 0), (0.08, 0, 0), 0.044, 0.5, "shell")),
    (((0, 0, -0.01), (0, 0, 0.075), 0.042, 0.7, "shell"),),
)


def _arm() -> str:
    opened = closed = ""
    for index, ((a, d, alpha, low, high, _), capsules) in enumerate(zip(DH, _LINKS, strict=True), start=1):
        opened += f'<body name="link{index}" {link_frame(a, d, alpha)} gravcomp="1">'
        opened += (
            f'<joint name="joint{index}" axis="0 0 1" range="{low} {high}" armature=".1" damping="1" {FIRM_LIMIT} '
            f'actuatorfrcrange="{-_TORQUE[index - 1]} {_TORQUE[index - 1]}"/>'
        )
        for start, end, radius, mass, material in capsules:
            ends = " ".join(f"{value:.6g}" for value in (*start, *end))
            opened += (
                f'<geom type="capsule" fromto="{ends}" size="{radius}" mass="{mass}" material="{material}" '
                'contype="2" conaffinity="1"/>'
            )
        closed += "</body>"
    hand = f'<body name="hand" {HAND_FRAME} gravcomp="1">{_hand()}</body>'
    return opened + hand + closed


class PandaRobot(Robot):
    """A Panda-like arm: damped-least-squares IK turns the TCP target into targets of position servos."""

    fixed_base = True
    bodies = (
        '<body name="base"><geom type="cylinder" size=".075 .07" pos="0 0 .07" material="joint" contype="2"/>'
        f"{_arm()}</body>",
    )
    sections = (
        *_gripper_sections(),
        "<actuator>"
        + "".join(
            f'<position name="joint{i}" joint="joint{i}" kp="{kp}" dampratio="1" inheritrange="1"/>'
            for i, kp in enumerate(_STIFFNESS, start=1)
        )
        + "</actuator>",
    )

    def __init__(self, model: mujoco.MjModel) -> None:
        super().__init__(model)
        names = [f"joint{i}" for i in range(1, 8)]
        self.joints = np.array([model.joint(name).qposadr[0] for name in names])
        self.servos = np.array([model.actuator(name).id for name in names])
        # The servos' damping acts on the speed itself and so lags by kv / kp; targets lead by all but SERVO_LAG of it.
        gain, damping = model.actuator_gainprm[self.servos, 0], -model.actuator_biasprm[self.servos, 2]
        self.lead = np.maximum(damping / gain - SERVO_LAG, 0.0)
        self.arm = Arm()
        self.angles = self.arm.home
        self._legs: dict[bytes, tuple[Array, list[Array]] | None] = {}

    def _place(self, data: mujoco.MjData) -> None:
        self.angles, _ = self.arm.inverse(self.target, self.arm.home, _LIMITS, iterations=60)
        data.qpos[self.joints] = self.angles
        data.ctrl[self.servos] = self.angles

    def _follow(self, data: mujoco.MjData, start: Array) -> None:
        before = self.angles
        angles, _ = self.arm.inverse(self.target, before, _LIMITS)
        step = np.minimum(np.maximum(angles - before, -MAX_JOINT_STEP), MAX_JOINT_STEP)
        self.angles = before + step
        for target in before + np.outer(_PARTS, step) + step * CONTROL_HZ * self.lead:
            data.ctrl[self.servos] = target
            mujoco.mj_step(self.model, data, nstep=SUBSTEPS // BLOCKS)

    def reachable(self, keys: Sequence[Array], obstacle: Array) -> bool:
        q, passed = self.angles, []
        for key in keys:
            leg = self._leg(key, q)
            if leg is None:
                return False
            q = leg[0]
            passed += leg[1]
        return _nearest(np.array(passed), obstacle) > CLEARANCE

    def _leg(self, end: Array, q: Array) -> tuple[Array, list[Array]] | None:
        """Joint angles at a pose, come from angles q, and the outer links on the way; None if the arm cannot go there.

        Kept, for the ways to do one scene begin alike.
        """
        key = end.tobytes() + q.tobytes()
        if key not in self._legs:
            if len(self._legs) >= MAX_LEGS:
                self._legs.clear()
            self._legs[key] = self._walk(end, q)
        return self._legs[key]

    def _walk(self, end: Array, q: Array) -> tuple[Array, list[Array]] | None:
        """The arm's approach to a pose: each step nearer, none a jump."""
        angles, last, links = q, inf, []
        for moved, missing in islice(self.arm.approach(end, q, _PATH_LIMITS), MAX_STEPS):
            turn = max(map(abs, (moved - angles).tolist()))
            if missing >= last or turn > SPARE_TURN + TURN_PER_METRE * (last - missing):
                return None
            angles, last = moved, missing
            links.append(self.arm.links())
            if missing < REACHED:
                return angles, links
        return None


def _nearest(chains: Array, obstacle: Array) -> float:
    """Distance of points (n, 3) from chains of segments between points (m, 4, 3) [m]."""
    start, along = chains[:, :-1], chains[:, 1:] - chains[:, :-1]
    length = np.maximum((along * along).sum(axis=-1), 1e-12)
    off = obstacle.reshape(-1, 1, 1, 3) - start
    part = np.minimum(np.maximum((off * along).sum(axis=-1) / length, 0.0), 1.0)
    off -= part[..., None] * along
    return sqrt((off * off).sum(axis=-1).min())


ROBOTS: dict[str, type[Robot]] = {"free": FreeRobot, "panda": PandaRobot}
