"""Pose actions of other environments: scipy's Rotation as the oracle, round trips, and whole trajectories."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from geoflow_envs.wrappers import (
    ROTATIONS,
    ActionConvention,
    ForeignActionWrapper,
    PoseActionWrapper,
    RotationCode,
    euler,
)
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

PEG_ID = "geoflow_envs:geoflow/TiltedPegInsert-v0"
ORDERS = [name.removeprefix("euler_") for name in ROTATIONS if name.startswith("euler_")]
GRIPPERS = {
    "closed_positive": (-1, 1),
    "open_positive": (1, -1),
    "closed_one": (0, 1),
    "open_one": (1, 0),
}  # what the foreign env calls open and closed


def rotations(count: int = 40, seed: int = 0) -> Rotation:
    """Random ones, tiny ones, half turns and the gimbal locks."""
    random = Rotation.random(count, random_state=seed)
    special = [
        Rotation.from_rotvec(angle * axis) for axis in np.eye(3) for angle in (0, 1e-9, np.pi / 2, np.pi)
    ]
    locks = [Rotation.from_euler("xyz", (0.3, sign * np.pi / 2, -0.8)) for sign in (1, -1)]
    return Rotation.concatenate([random, *special, *locks])


def wxyz(rotation: Rotation) -> NDArray[np.float64]:
    return np.roll(rotation.as_quat(), 1)


def pose(position: Any, rotation: Rotation) -> NDArray[np.float64]:
    return np.concatenate([position, wxyz(rotation)])


def rotation_of(T: NDArray[np.float64]) -> Rotation:
    return Rotation.from_quat(np.roll(T[3:7], -1))


def scipy_rotation(name: str, entries: NDArray[np.float64]) -> Rotation:
    """What the entries mean, by scipy alone."""
    if name == "rotvec":
        return Rotation.from_rotvec(entries)
    if name == "quat_xyzw":
        return Rotation.from_quat(entries)
    if name == "quat_wxyz":
        return Rotation.from_quat(np.roll(entries, -1))
    if name == "matrix":
        return Rotation.from_matrix(entries.reshape(3, 3))
    if name.startswith("euler_"):
        return Rotation.from_euler(name.removeprefix("euler_"), entries)
    x, y = entries[:3], entries[3:]
    third = np.cross(x, y)
    return Rotation.from_matrix(np.stack([x, y, third], axis=1 if name == "6d_columns" else 0))


# --- rotation codes ---


@pytest.mark.parametrize("name", ROTATIONS)
def test_the_entries_mean_what_scipy_reads_in_them(name: str) -> None:
    code = ROTATIONS[name]
    for rotation in rotations():
        entries = code.encode(wxyz(rotation))
        assert entries.shape == (code.size,)
        assert np.abs(entries).max() <= code.bound + 1e-9
        assert (scipy_rotation(name, entries) * rotation.inv()).magnitude() < 1e-6
        decoded = code.decode(entries)
        assert np.linalg.norm(decoded) == pytest.approx(1.0)
        assert (rotation_of(np.append(np.zeros(3), decoded)) * rotation.inv()).magnitude() < 1e-6


def test_every_order_of_three_axes_is_there() -> None:
    assert len(ORDERS) == 24
    for order in ORDERS:
        assert euler(order).size == 3


def test_quaternions_and_rows_away_from_unit_length_are_read_as_the_nearest_rotation() -> None:
    for name in ("quat_xyzw", "quat_wxyz", "6d_columns", "6d_rows"):
        for rotation in rotations(8):
            entries = 3.0 * ROTATIONS[name].encode(wxyz(rotation))
            decoded = rotation_of(np.append(np.zeros(3), ROTATIONS[name].decode(entries)))
            assert (decoded * rotation.inv()).magnitude() < 1e-6


@pytest.mark.parametrize("order", ["xxy", "xyy", "xy", "xyzx", "xYz", "abc", ""])
def test_an_order_that_reaches_not_every_rotation_is_refused(order: str) -> None:
    with pytest.raises(ValueError, match="an Euler order is three of the letters"):
        euler(order)


# --- conventions ---


@pytest.mark.parametrize("gripper", GRIPPERS)
@pytest.mark.parametrize("name", ["rotvec", "quat_xyzw", "6d_rows", "euler_ZYX"])
def test_an_absolute_action_is_position_rotation_and_gripper(name: str, gripper: str) -> None:
    convention = ActionConvention(name, gripper=gripper)
    for rotation in rotations(10):
        for ours, theirs in zip((-1, 1), GRIPPERS[gripper], strict=True):
            foreign = convention.to_foreign(np.append(pose((0.4, -0.1, 0.3), rotation), ours))
            np.testing.assert_allclose(foreign[:3], (0.4, -0.1, 0.3), atol=1e-12)
            assert (scipy_rotation(name, foreign[3:-1]) * rotation.inv()).magnitude() < 1e-6
            assert foreign[-1] == pytest.approx(theirs)


@pytest.mark.parametrize("rotation_frame", ["world", "body"])
@pytest.mark.parametrize("position_frame", ["world", "body"])
@pytest.mark.parametrize("name", ["rotvec", "euler_xyz", "quat_wxyz"])
def test_a_delta_leads_from_the_reference_to_the_goal(
    name: str, position_frame: str, rotation_frame: str
) -> None:
    scale = 1.0 if name == "quat_wxyz" else 0.5
    convention = ActionConvention(
        name,
        delta=True,
        position_frame=position_frame,
        rotation_frame=rotation_frame,
        position_scale=0.05,
        rotation_scale=scale,
    )
    rng = np.random.default_rng(1)
    for now, goal in zip(rotations(10, 1), rotations(10, 2), strict=True):
        p_now, p_goal = rng.normal(size=(2, 3))
        foreign = convention.to_foreign(np.append(pose(p_goal, goal), 0.2), pose(p_now, now))
        dp, dR = 0.05 * foreign[:3], scipy_rotation(name, scale * foreign[3:-1])
        reached = p_now + (now.apply(dp) if position_frame == "body" else dp)
        turned = now * dR if rotation_frame == "body" else dR * now
        np.testing.assert_allclose(reached, p_goal, atol=1e-9)
        assert (turned * goal.inv()).magnitude() < 1e-6
        back = convention.from_foreign(foreign, pose(p_now, now))
        np.testing.assert_allclose(back[:3], p_goal, atol=1e-9)
        assert (rotation_of(back) * goal.inv()).magnitude() < 1e-6
        assert back[7] == pytest.approx(0.2)


def test_the_frames_of_base_and_tool_are_taken_out() -> None:
    base = pose((1.0, 2.0, 3.0), Rotation.from_euler("z", 0.7))
    tool = pose((0.0, 0.0, 0.1), Rotation.from_euler("z", np.pi / 4))
    convention = ActionConvention(T_world_base=tuple(base), T_tcp_ee=tuple(tool))
    for rotation in rotations(10):
        foreign = convention.to_foreign(np.append(pose((0.4, 0.2, 0.1), rotation), 1.0))
        ee = rotation_of(base).inv() * rotation * rotation_of(tool)
        position = (
            rotation_of(base).inv().apply(np.array((0.4, 0.2, 0.1)) + rotation.apply(tool[:3]) - base[:3])
        )
        np.testing.assert_allclose(foreign[:3], position, atol=1e-9)
        assert (Rotation.from_rotvec(foreign[3:6]) * ee.inv()).magnitude() < 1e-6
        back = convention.from_foreign(foreign)
        np.testing.assert_allclose(back[:3], (0.4, 0.2, 0.1), atol=1e-9)
        assert (rotation_of(back) * rotation.inv()).magnitude() < 1e-6


@pytest.mark.parametrize("name", ["rotvec", "euler_XYZ"])
def test_a_long_delta_is_shortened_and_keeps_its_direction(name: str) -> None:
    convention = ActionConvention(name, delta=True, position_scale=0.05, rotation_scale=0.5, limit=1.0)
    now = pose((0, 0, 0), Rotation.identity())
    for rotation in rotations(20, 5):
        foreign = convention.to_foreign(np.append(pose((0.3, -0.1, 0.2), rotation), 0.0), now)
        assert np.abs(foreign).max() <= 1.0
        np.testing.assert_allclose(foreign[:3], (1, -1 / 3, 2 / 3), atol=1e-9)
        turn = scipy_rotation(name, 0.5 * foreign[3:6]).as_rotvec()
        whole = rotation.as_rotvec()
        if np.linalg.norm(whole) < 3.1:  # a half turn has two directions
            np.testing.assert_allclose(np.cross(turn, whole), 0, atol=1e-6)
            assert turn @ whole >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotation": "quat_xwyz"}, "Did you mean 'quat_xyzw'"),
        ({"rotation": "euler_xxy"}, "euler_ with an order such as euler_xyz"),
        (
            {"position_frame": "hand", "delta": True},
            "position_frame must be one of 'world', 'body'; got 'hand'",
        ),
        ({"rotation_frame": "body"}, "has a meaning for deltas only: pass delta=True"),
        ({"position_scale": 0.0}, "position_scale must be positive and finite; got 0.0"),
        ({"rotation": "quat_xyzw", "rotation_scale": 0.5}, "'quat_xyzw' has none"),
        ({"limit": 1.0}, "limit shortens deltas"),
        ({"gripper": "robotiq"}, "gripper must be one of 'closed_positive'"),
        ({"extras": -1}, "extras must be the number of entries after the pose"),
        ({"T_world_base": (0, 0, 0, 0, 0, 0, 0)}, "T_world_base must be a pose"),
        ({"T_tcp_ee": (1, 0, 0, 0)}, "T_tcp_ee must be a pose"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_convention_is_refused_with_the_valid_values(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActionConvention(**change)


def test_a_code_that_brings_no_pose_back_is_refused() -> None:
    """Written xyzw and read wxyz, the error every adapter makes once; and a size that does not hold."""
    mixed = RotationCode("mixed", 4, lambda q: np.roll(q, -1), lambda q: q)
    with pytest.raises(ValueError, match="does not bring poses back: 3 position \\+ 4 mixed"):
        ActionConvention(mixed)
    with pytest.raises(ValueError, match="encodes a rotation as 4 numbers and says size=3"):
        ActionConvention(RotationCode("short", 3, lambda q: q, lambda q: q))


def test_a_code_of_ones_own_is_taken() -> None:
    """Gibbs' vector would divide by zero at half turns; the stereographic one reaches all but a full turn."""

    def decode(m: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append(1 - m @ m, 2 * m) / (1 + m @ m)

    def encode(q: NDArray[np.float64]) -> NDArray[np.float64]:
        q = q if q[0] >= 0 else -q
        return q[1:] / (1 + q[0])

    convention = ActionConvention(RotationCode("mrp", 3, encode, decode), extras=0)
    goal = pose((0, 0, 0), Rotation.from_rotvec((0.3, 0, 0)))
    np.testing.assert_allclose(convention.to_foreign(goal)[3:], (np.tan(0.075), 0, 0), atol=1e-9)


def test_shapes_and_a_missing_reference_are_named() -> None:
    with pytest.raises(ValueError, match=r"our action.*shape \(8,\); got \(7,\)"):
        ActionConvention().to_foreign(np.zeros(7))
    with pytest.raises(
        ValueError, match=r"3 position \+ 3 rotvec \+ 1 extra = 7 entries, shape \(7,\); got \(8,\)"
    ):
        ActionConvention().from_foreign(np.zeros(8))
    with pytest.raises(ValueError, match="pass tcp"):
        ActionConvention(delta=True).from_foreign(np.zeros(7))


# --- environments ---


class Drone(gym.Env):
    """A MuJoCo body that goes where foreign actions send it; what they mean is computed by scipy alone."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, body_frame: bool) -> None:
        self.body_frame = body_frame
        self.model = mujoco.MjModel.from_xml_string(
            "<mujoco><worldbody><body name='hand' mocap='true'><geom size='.02'/></body></worldbody></mujoco>"
        )
        self.data = mujoco.MjData(self.model)
        self.action_space = gym.spaces.Box(-1, 1, (7,), np.float32)
        bound = np.full(7, 10, np.float32)
        self.observation_space = gym.spaces.Dict({"eef": gym.spaces.Box(-bound, bound)})
        self.gripper = 0.0

    def _observation(self) -> dict[str, Any]:
        mujoco.mj_forward(self.model, self.data)
        body = self.data.body("hand")
        return {"eef": np.concatenate([body.xpos, np.roll(body.xquat, -1)]).astype(np.float32)}  # xyzw

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.data.mocap_pos[0] = self.np_random.uniform(-0.2, 0.2, 3)
        self.data.mocap_quat[0] = wxyz(Rotation.random(random_state=seed))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        action = action.astype(float)
        now = Rotation.from_quat(np.roll(self.data.mocap_quat[0], -1))
        dp, dR = 0.05 * action[:3], Rotation.from_rotvec(0.5 * action[3:6])
        self.data.mocap_pos[0] += now.apply(dp) if self.body_frame else dp
        self.data.mocap_quat[0] = wxyz(now * dR if self.body_frame else dR * now)
        self.gripper = float(action[6])
        return self._observation(), 0.0, False, False, {}


def from_xyzw(observation: dict[str, Any]) -> NDArray[np.float64]:
    return np.concatenate([observation["eef"][:3], np.roll(observation["eef"][3:], 1)])


def osc(frame: str = "world", **changes: Any) -> ActionConvention:
    """The deltas of robosuite's OSC_POSE."""
    settings = {
        "position_frame": frame,
        "rotation_frame": frame,
        "position_scale": 0.05,
        "rotation_scale": 0.5,
    }
    return ActionConvention(
        **{"delta": True, "limit": 1.0, "gripper": "open_positive", **settings, **changes}
    )


@pytest.mark.parametrize("reference", ["achieved", "desired"])
@pytest.mark.parametrize("frame", ["world", "body"])
def test_a_foreign_env_goes_where_our_absolute_action_says(frame: str, reference: str) -> None:
    core = Drone(body_frame=frame == "body")
    env = PoseActionWrapper(core, osc(frame), tcp=from_xyzw, reference=reference)
    for seed in range(3):
        env.reset(seed=seed)
        rotation = Rotation.random(random_state=seed + 50)
        goal = np.append(pose((0.1, -0.3, 0.2), rotation), 1.0)
        for _ in range(25):
            observation = env.step(goal.astype(np.float32))[0]
        np.testing.assert_allclose(observation["eef"][:3], goal[:3], atol=1e-5)
        assert (Rotation.from_quat(observation["eef"][3:]) * rotation.inv()).magnitude() < 1e-4
        assert core.gripper == -1.0  # +1 opens there


def test_samples_of_the_action_space_can_be_stepped() -> None:
    env = PoseActionWrapper(Drone(False), osc(), tcp=from_xyzw)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(20):
        env.step(env.action_space.sample())


CONVENTIONS = {
    "rotvec": ActionConvention("rotvec"),
    "xyzw": ActionConvention("quat_xyzw", gripper="open_one"),
    "euler": ActionConvention("euler_ZYX", gripper="open_positive"),
    "6d": ActionConvention("6d_rows", position_scale=0.001),
    "delta world": osc(limit=None),
    "delta body": osc("body", limit=None),
    "delta mixed": osc(position_frame="world", rotation_frame="body", limit=None),
    "base": ActionConvention("6d_columns", T_world_base=(0.5, -0.2, 0.1, 0.6, 0.0, 0.8, 0.0)),
}


@pytest.mark.parametrize("reference", ["achieved", "desired"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_there_and_back_the_expert_walks_the_same_way(name: str, reference: str) -> None:
    """Ours -> foreign -> ours around TiltedPegInsert: the trajectory is the plain env's but for rounding."""
    plain = gym.make(PEG_ID, disable_env_checker=True)
    around: Any = gym.make(PEG_ID, disable_env_checker=True)
    convention = CONVENTIONS[name]
    around = ForeignActionWrapper(around, convention, tcp="tcp", reference=reference)
    around = PoseActionWrapper(around, convention, tcp="tcp", reference=reference)
    plain.reset(seed=4)
    around.reset(seed=4)
    expert = plain.unwrapped.expert()  # type: ignore[attr-defined]
    for _ in range(40):
        action = expert.act()
        there, here = around.step(action)[0], plain.step(action)[0]
        np.testing.assert_allclose(there["tcp"][:3], here["tcp"][:3], atol=1e-5)
        tcps = (rotation_of(there["tcp"].astype(float)), rotation_of(here["tcp"].astype(float)))
        assert (tcps[0] * tcps[1].inv()).magnitude() < 1e-4
        np.testing.assert_allclose(there["gripper"], here["gripper"], atol=1e-4)


def test_the_foreign_action_space_has_the_bounds_of_the_convention() -> None:
    env = ForeignActionWrapper(gym.make(PEG_ID, disable_env_checker=True), osc(gripper="closed_one"))
    space = env.action_space
    assert isinstance(space, gym.spaces.Box)
    np.testing.assert_array_equal(space.low, [-1] * 6 + [0])
    np.testing.assert_array_equal(space.high, [1] * 7)
    env.reset(seed=0)
    space.seed(0)
    for _ in range(5):
        env.step(space.sample())
    with pytest.raises(ValueError, match="must be finite"):
        env.step(np.full(7, np.nan))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: PoseActionWrapper(Drone(False), ActionConvention("quat_xyzw")),
            r"= 8 entries; the env's action",
        ),
        (lambda: PoseActionWrapper(Drone(False), osc()), "deltas start from the TCP pose"),
        (lambda: PoseActionWrapper(Drone(False), osc(), tcp="tcp"), "tcp='tcp' is no key.*it has 'eef'"),
        (
            lambda: PoseActionWrapper(Drone(False), osc(), tcp="eef", reference="last"),
            "'achieved', 'desired'",
        ),
        (lambda: PoseActionWrapper(Drone(False), "osc"), "must be an ActionConvention"),  # type: ignore[arg-type]
        (lambda: ForeignActionWrapper(Drone(False), osc(), tcp="eef"), r"a Box of shape \(8,\)"),
    ],
    ids=["layout", "no tcp", "no key", "reference", "convention", "not ours"],
)
def test_a_wrapper_that_does_not_fit_says_why(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_bad_action_or_tcp_is_refused_before_anything_moves() -> None:
    core = Drone(False)
    env = PoseActionWrapper(core, osc(), tcp=from_xyzw)
    env.reset(seed=0)
    before = core.data.mocap_pos.copy()
    for action, message in (
        (np.zeros(7), r"shape \(8,\)"),
        (np.full(8, np.nan), "finite"),
        (np.zeros(8), r"norm within \[0.9, 1.1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            env.step(action)
    np.testing.assert_array_equal(core.data.mocap_pos, before)
    with pytest.raises(ValueError, match="tcp must give a pose"):
        PoseActionWrapper(core, osc(), tcp=lambda observation: observation["eef"][:3]).reset(seed=0)
