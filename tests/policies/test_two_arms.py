"""Policies of two arms: a chunk of each in a frame of its own, one motion of the world moves both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.data.demonstrations import DemonstrationError, Demonstrations, Episode, Meta, write
from geoflow.data.formats.convert import Asked, convert
from geoflow.data.frames import into_frame, out_of_frame
from geoflow.data.info import describe
from geoflow.experiments.config import Config, EnvConfig, TrainConfig
from geoflow.experiments.disturbance import Disturbance
from geoflow.experiments.smoothness import Jumps
from geoflow.experiments.training import train
from geoflow.policies.base import Onward, PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution, Executor, average
from geoflow.policies.frames import Frames, Units, blocks, chunk_space
from tests.walks import STEPS
from tests.walks import episode as walk

KINDS = {"tcp_left": "pose", "tcp_right": "pose", "goal": "pose", "gripper": "vector"}
META = Meta("tests/TwoWalks-v0", {}, 20.0, KINDS, arms=2)
SMALL = PolicyConfig(width=32, depth=1, horizon=8, execute=4, nfe=2)
POLICIES = {
    "SE3": SMALL,
    "R3xSO3": replace(SMALL, manifold="R3xSO3"),
    "Euclidean": replace(SMALL, manifold="Euclidean"),
    "ddpm": replace(SMALL, type="ddpm", target="noise"),
    "regression": replace(SMALL, type="regression"),
    "transformer": replace(SMALL, backbone="transformer"),
    "one frame": replace(SMALL, frame="tcp_left"),
}
EVERY_POLICY = pytest.mark.parametrize("name", POLICIES)


def episode(seed: int) -> Episode:
    """Two arms that walk to goals of their own, as `tests.walks` has them; the goal observed is the left one's."""
    left, right = walk(seed), walk(1000 + seed)
    obs = {"tcp_left": left.obs["tcp"], "tcp_right": right.obs["tcp"], "goal": left.obs["goal"]}
    obs["gripper"] = np.concatenate([left.obs["gripper"], -right.obs["gripper"]], -1)
    grippers = np.concatenate([left.actions[:, 7:], -right.actions[:, 7:]], -1)
    actions = np.concatenate([left.actions[:, :7], right.actions[:, :7], grippers], -1)
    return Episode(obs, actions, np.zeros(STEPS, bool), seed)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "two.h5"
    write(path, META, (episode(seed) for seed in range(24)))
    return path


def fitted(demos, config: PolicyConfig):
    torch.manual_seed(0)
    chunks = Chunks(demos, config.horizon, config.observation_steps)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    return policy.eval(), chunks


def nothing(batch: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(batch)]


def shaken(policy) -> None:
    """Networks begin at zero; weights of some size make chunks depend on what is observed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in policy.net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))


# --- demonstrations ---


def test_a_file_says_how_many_arms_and_gives_back_what_was_written(demos):
    with Demonstrations(demos) as read:
        assert read.meta.arms == 2
        np.testing.assert_array_equal(read[3].actions, episode(3).actions)
    import h5py

    with h5py.File(demos) as file:
        assert file["data"].attrs["action_convention"] == "2*absolute_pose_world+extras"
        assert "arms" not in file["data"].attrs
    assert "2 poses + extras (16,)" in describe(demos)


def test_the_second_arms_quaternion_is_checked_too(tmp_path):
    bad = episode(0)
    bad.actions[5, 10:14] *= 1.1
    with pytest.raises(DemonstrationError, match=r"actions has a quaternion of norm 1\.1 at step 5"):
        write(tmp_path / "bad.h5", META, [bad])
    with pytest.raises(DemonstrationError, match=r"expected \(N, 14 \+ k\), the poses of 2 arms"):
        write(tmp_path / "bad.h5", META, [replace(bad, actions=bad.actions[:, :8])])


def test_files_of_one_and_of_two_arms_do_not_go_together(tmp_path, demos):
    path = tmp_path / "one.h5"
    write(path, replace(META, arms=1), (episode(seed) for seed in range(2)))
    with pytest.raises(DemonstrationError, match=r"the poses of 1 arm\(s\) in its actions; expected 2"):
        Chunks([demos, path], 8)


def test_conversion_keeps_two_arms_and_refuses_to_rewrite_them(tmp_path, demos):
    there, back = tmp_path / "there.hdf5", tmp_path / "back.h5"
    convert(demos, there, to_format="robomimic", to_actions=Asked("absolute_wxyz"))
    convert(there, back)
    with Demonstrations(back) as read:
        assert read.meta.arms == 2
        np.testing.assert_array_equal(read[1].actions, episode(1).actions)
    with pytest.raises(DemonstrationError, match="actions of 2 arms, which are written in one convention"):
        convert(demos, tmp_path / "x.hdf5", to_format="robomimic", to_actions=Asked("absolute_rotvec"))


# --- frames and units ---


def test_frames_see_each_arm_on_its_own():
    """Against the composition of matrices, arm by arm."""
    generator = torch.Generator().manual_seed(0)
    space = gf.SE3()
    T_wr = space.exp(space.identity(5, 2), torch.randn(5, 2, 6, generator=generator))
    poses = space.exp(space.identity(5, 2), torch.randn(5, 2, 6, generator=generator))
    extras = torch.randn(5, 3, generator=generator)
    local = into_frame(T_wr.flatten(-2), torch.cat([poses.flatten(-2), extras], -1))
    to_matrix = gf.lie.se3.to_matrix
    expected = torch.linalg.solve(to_matrix(T_wr), to_matrix(poses))
    torch.testing.assert_close(to_matrix(local[:, :14].unflatten(-1, (2, 7))), expected, atol=1e-5, rtol=0)
    assert torch.equal(local[:, 14:], extras)
    back = out_of_frame(T_wr.flatten(-2), local)[:, :14].unflatten(-1, (2, 7))
    torch.testing.assert_close(to_matrix(back), to_matrix(poses), atol=1e-5, rtol=0)


def test_a_frame_is_one_name_for_all_arms_or_the_beginning_of_one_for_each():
    poses = ["tcp_left", "tcp_right", "goal"]
    assert Frames.of("tcp", poses, 2).names == ("tcp_left", "tcp_right")
    assert Frames.of("goal", poses, 2).names == ("goal", "goal")
    assert Frames.of("world", poses, 2).in_world
    for name, arms in (("tcp", 1), ("tcp", 3), ("hand", 2)):
        with pytest.raises(ValueError, match=f"policy.frame='{name}'; it is world or a pose observation"):
            Frames.of(name, poses, arms)
    with pytest.raises(ValueError, match="or the beginning of 2 of them, one an arm"):
        Frames.of("hand", poses, 2)


def test_units_are_undone_and_share_one_length():
    units = Units(2, torch.tensor(0.2), torch.tensor([0.1, -0.3]), torch.tensor([0.5, 2.0]))
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    points = units.into(x)
    torch.testing.assert_close(units.out_of(points), x)
    torch.testing.assert_close(points[:, [0, 1, 2, 7, 8, 9]], x[:, [0, 1, 2, 7, 8, 9]] / 0.2)
    assert torch.equal(points[:, 3:7], x[:, 3:7])


def test_blocks_are_positions_rotations_and_extras_of_the_space():
    space = chunk_space("SE3", 2, 2)
    assert (space.point_dim, space.tangent_dim, space.feature_dim) == (16, 14, 20)
    parts = blocks(space.tangent_dim, 2, 2)
    assert [(p.start, p.stop) for p in parts] == [(0, 3), (3, 6), (6, 9), (9, 12), (12, 13), (13, 14)]
    parts = blocks(space.feature_dim, 2, 2)
    assert [(p.start, p.stop) for p in parts] == [(0, 3), (3, 9), (9, 12), (12, 18), (18, 19), (19, 20)]


# --- policies ---


@EVERY_POLICY
def test_what_is_learned_gives_the_actions_back(demos, name):
    policy, chunks = fitted(demos, POLICIES[name])
    batch = chunks.sample(20)
    back = policy.from_space(batch.obs, policy.to_space(batch.obs, batch.actions))
    space = chunk_space("SE3", 2, 2)
    assert space.distance(back.double(), batch.actions.double()).max() < 2e-4


@EVERY_POLICY
def test_chunks_have_two_poses_and_two_grippers(demos, name):
    policy, chunks = fitted(demos, POLICIES[name])
    obs = chunks.sample(3).obs
    nfe = 1 if name == "regression" else 2
    chunk = policy.act(obs, nfe=nfe, generator=nothing(3))
    assert chunk.shape == (3, 8, 16)
    norms = chunk[..., :14].unflatten(-1, (2, 7))[..., 3:].norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-4, rtol=0)
    assert policy(chunks.sample(3), torch.Generator().manual_seed(0)).shape == (3,)


@EVERY_POLICY
@pytest.mark.parametrize("about", ["vertical", "any"])
def test_one_motion_of_the_world_moves_both_chunks(demos, name, about):
    """Of the scene and the chunk alike: exact, but for what gravity tells of a tilted world."""
    policy, chunks = fitted(demos, replace(POLICIES[name], gravity=about != "any"))
    shaken(policy)
    twist = torch.tensor([0.3, -0.2, 0.0, 0.0, 0.0, 1.9])
    if about == "any":
        twist = torch.tensor([0.3, -0.2, 0.4, 1.1, -0.8, 0.7])
    move = gf.lie.se3.exp(twist)
    obs = chunks.sample(6).obs
    moved = {key: gf.lie.se3.compose(move, x) if KINDS[key] == "pose" else x for key, x in obs.items()}
    nfe = 1 if name == "regression" else 2
    chunk, other = (policy.act(o, nfe=nfe, generator=nothing(6)) for o in (obs, moved))
    expected = out_of_frame(move.repeat(2), chunk)
    assert chunk_space("SE3", 2, 2).distance(other, expected).max() < 2e-3
    assert chunk_space("SE3", 2, 2).distance(other, chunk).min() > 0.1


def test_the_arms_are_told_apart(demos):
    """Exchanging what the two hands see is another observation, and gives another chunk."""
    policy, chunks = fitted(demos, SMALL)
    shaken(policy)
    obs = chunks.sample(4).obs
    swapped = {**obs, "tcp_left": obs["tcp_right"], "tcp_right": obs["tcp_left"]}
    chunk, other = (policy.act(o, generator=nothing(4)) for o in (obs, swapped))
    exchanged = torch.cat([other[..., 7:14], other[..., :7], other[..., 14:]], -1)
    assert chunk_space("SE3", 2, 2).distance(chunk, exchanged).min() > 1e-3


def test_a_policy_of_two_arms_learns_both_is_saved_and_loaded(demos, tmp_path):
    """A short training lowers the loss; the folder gives the same chunks."""
    config = Config(
        EnvConfig("tests/TwoWalks-v0"),
        policy=replace(SMALL, width=64),
        train=TrainConfig(demos=str(demos), steps=150, batch_size=64),
    )
    out = train(config, tmp_path / "run", device="cpu")
    policy = gf.load_policy(out)
    assert (policy.arms, policy.spec.arms, policy.spec.action_dim) == (2, 2, 16)
    obs = Chunks(demos, 8).sample(5).obs
    chunk = policy.act(obs, generator=nothing(5))
    again = gf.load_policy(out).act(obs, generator=nothing(5))
    assert torch.equal(chunk, again)
    fresh, chunks = fitted(demos, config.policy)
    batch = chunks.sample(200)
    loss, before = (p(batch, torch.Generator().manual_seed(0)).mean() for p in (policy, fresh))
    assert loss < 0.7 * before


def test_the_invariant_transformer_says_that_it_is_of_one_arm(demos):
    with pytest.raises(ValueError, match="attends from the poses of one arm; these actions have 2"):
        fitted(demos, replace(SMALL, backbone="invariant"))


# --- execution, disturbances, smoothness ---


def test_going_on_with_a_chunk_works_for_two_arms(demos):
    policy, chunks = fitted(demos, SMALL)
    obs = chunks.sample(2).obs
    chunk = policy.act(obs, generator=nothing(2))
    on = policy.act(obs, generator=nothing(2), onward=Onward(chunk[:, 2:], 3), nfe=4)
    assert on.shape == chunk.shape
    executor = Executor(policy, Execution(2, ensemble=0.1), 2)
    for _ in range(3):
        assert executor.act(obs, [0, 1], nothing(2)).shape == (2, 16)


def test_the_mean_of_predictions_is_each_arms_own():
    """Both arms half-way between their two poses: the geodesic's middle, arm by arm."""
    space = gf.SE3()
    generator = torch.Generator().manual_seed(0)
    a = space.exp(space.identity(2), torch.randn(2, 6, generator=generator))
    b = space.exp(a, 0.4 * torch.randn(2, 6, generator=generator))
    stacked = torch.stack(
        [torch.cat([T.flatten(), torch.tensor(g)]) for T, g in ((a, [-1.0, 1.0]), (b, [1.0, 1.0]))]
    )
    mean = torch.from_numpy(average(stacked.numpy(), 0.0, 2))
    middle, _ = space.geodesic(a, b, torch.full((2,), 0.5))
    assert space.distance(mean[:14].reshape(2, 7), middle).max() < 1e-4
    torch.testing.assert_close(mean[14:], torch.tensor([0.0, 1.0]))


def test_both_arms_are_pushed_at_the_same_time_in_directions_of_their_own():
    noise = Disturbance(0.2, np.random.default_rng(0), arms=2)
    action = np.concatenate([np.tile([0.1, 0.2, 0.3, 1, 0, 0, 0], 2), [1.0, -1.0]]).astype(np.float32)
    twists = []
    for _ in range(400):
        executed, differs = noise.apply(action)
        np.testing.assert_array_equal(executed[14:], action[14:])
        moved = gf.lie.se3.log(
            gf.lie.se3.compose(
                gf.lie.se3.inverse(torch.from_numpy(action[:14].reshape(2, 7))),
                torch.from_numpy(executed[:14].reshape(2, 7)),
            )
        ).numpy()
        assert (np.abs(moved).max(1) > 1e-5).all() == differs
        twists.append(moved)
    left, right = np.array(twists)[:, 0], np.array(twists)[:, 1]
    assert np.abs(left - right).max() > 0.01


def test_one_arm_is_pushed_as_before():
    """The stream of random numbers of one arm is that of a Disturbance without arms."""
    action = np.array([0.1, 0.2, 0.3, 1, 0, 0, 0, 1], np.float32)
    a, b = (Disturbance(0.2, np.random.default_rng(3), *arms) for arms in ((), (1,)))
    for _ in range(100):
        np.testing.assert_array_equal(a.apply(action)[0], b.apply(action)[0])


def test_jumps_of_two_arms_are_those_of_each():
    commands = episode(0).actions
    new = np.arange(STEPS) % 8 == 0
    both = Jumps.of(commands, new, arms=2)
    each = [Jumps.of(commands[:, 7 * arm : 7 * arm + 7], new) for arm in (0, 1)]
    np.testing.assert_allclose(both.border, np.concatenate([jumps.border for jumps in each]))
    np.testing.assert_allclose(both.inside, np.concatenate([jumps.inside for jumps in each]))
