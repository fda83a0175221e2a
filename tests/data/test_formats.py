"""What is converted to a format of others and back is what it was; what others wrote is read in their conventions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from numcodecs import Pickle
from scipy.spatial.transform import Rotation

from geoflow.cli import main
from geoflow.data.demonstrations import DemonstrationError, Demonstrations, Episode, Meta, write
from geoflow.data.formats import diffusion_policy, table
from geoflow.data.formats.actions import CONVENTIONS, GRIPPERS, Actions
from geoflow.data.formats.convert import Asked, convert
from geoflow.data.formats.lerobot import files
from geoflow.data.formats.recording import Hints
from geoflow.experiments.collection import collect
from geoflow.experiments.config import CollectConfig, EnvConfig

OTHERS = [name for name in table.FORMATS if name != "geoflow"]
CHEAP_META = Meta("tests/Reach-v0", {"tolerance": 0.01}, 20.0, {"tcp": "pose", "gripper": "vector"})


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of the peg task, some of their actions disturbed."""
    path = tmp_path_factory.mktemp("demos") / "peg.h5"
    env = EnvConfig("geoflow_envs:geoflow/TiltedPegInsert-v0", {"level": 0, "robot": "free"})
    collect(env, CollectConfig(episodes=3, workers=1, disturbance=0.1), path, seed=0)
    return path


def poses(rng: np.random.Generator, n: int) -> np.ndarray:
    quaternions = rng.normal(size=(n, 4))
    quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
    return np.concatenate([rng.normal(size=(n, 3)), quaternions], -1).astype(np.float32)


def episode(seed: int, n: int = 9, images: bool = False) -> Episode:
    rng = np.random.default_rng(seed)
    obs = {"tcp": poses(rng, n), "gripper": rng.uniform(-1, 1, (n, 1)).astype(np.float32)}
    if images:
        obs |= {
            "even": np.stack([gradient(32, 48, seed + t) for t in range(n)]),
            "odd": rng.integers(0, 256, (n, 5, 7, 3), dtype=np.uint8),
            "grey": rng.integers(0, 256, (n, 6, 4, 1), dtype=np.uint8),
        }
    actions = np.concatenate([poses(rng, n), rng.uniform(-1, 1, (n, 1))], -1).astype(np.float32)
    success = seed % 2 == 0
    return Episode(obs, actions, rng.uniform(size=n) < 0.3, seed, success, "" if success else "dropped")


def gradient(height: int, width: int, t: int) -> np.ndarray:
    """A smooth picture, as cameras give them; a codec may lose noise."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 // width, y * 255 // height, np.full_like(x, (t * 20) % 256)]
    return np.stack(channels, -1).astype(np.uint8)


@pytest.fixture
def cheap(tmp_path: Path) -> Path:
    path = tmp_path / "cheap.h5"
    write(path, CHEAP_META, (episode(i, 9 + i) for i in range(12)))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    kinds = {"tcp": "pose", "gripper": "vector", "even": "image", "odd": "image", "grey": "image"}
    path = tmp_path / "pictures.h5"
    write(
        path, replace(CHEAP_META, observation_kinds=kinds), (episode(i, 9 + i, images=True) for i in range(4))
    )
    return path


def assert_same(a: Path, b: Path, lossy: tuple[str, ...] = (), tolerance: float = 1e-6) -> None:
    """Equal up to the sign of a quaternion and ``tolerance``; names and numbers of everything else exactly."""
    with Demonstrations(a) as first, Demonstrations(b) as second:
        assert first.meta == second.meta
        assert len(first) == len(second)
        for x, y in zip(first, second, strict=True):
            assert (x.seed, x.success, x.failure) == (y.seed, y.success, y.failure)
            np.testing.assert_array_equal(x.disturbed, y.disturbed)
            assert_same_actions(x.actions, y.actions, tolerance)
            assert x.obs.keys() == y.obs.keys()
            for name in x.obs:
                assert x.obs[name].dtype == y.obs[name].dtype
                if name not in lossy:
                    np.testing.assert_array_equal(x.obs[name], y.obs[name])


def assert_same_actions(x: np.ndarray, y: np.ndarray, tolerance: float = 1e-6) -> None:
    assert x.dtype == y.dtype == np.float32
    sign = np.sign((x[:, 3:7] * y[:, 3:7]).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        np.concatenate([y[:, :3], sign * y[:, 3:7], y[:, 7:]], -1), x, atol=tolerance, rtol=0
    )


def there_and_back(source: Path, name: str, asked: Asked | None = None) -> Path:
    """Through a format, which must be recognised."""
    folder = source.parent
    made = convert(source, folder / f"other-{name}", to_format=name, to_actions=asked, overwrite=True)
    back = convert(made.path, folder / f"back-{name}.h5", overwrite=True)
    assert back.from_format == name
    assert back.read == made.written
    assert not [path for path in os.listdir(folder) if path.endswith((".tmp", ".old"))]
    return back.path


# Round trips.


@pytest.mark.parametrize("name", OTHERS)
def test_collected_demonstrations_survive_every_format(demos, name):
    assert_same(demos, there_and_back(demos, name))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", OTHERS)
def test_every_format_writes_every_convention_and_remembers_it(cheap, name, convention):
    asked = Asked(convention, "open_unit", (3.0, 4.0) if convention == "delta_rotvec" else None)
    if convention == "delta_rotvec":  # targets a step away, as deltas need them
        with Demonstrations(cheap) as found:
            meta, near = found.meta, [replace(x, actions=with_pose(x.actions, x.obs["tcp"])) for x in found]
        write(cheap, meta, near)
    assert_same(cheap, there_and_back(cheap, name, asked), tolerance=3e-6)


def with_pose(actions: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The actions, from ``start`` on: a bounded walk and turn."""
    turn = Rotation.from_rotvec(np.tanh(actions[:, :3])) * Rotation.from_quat(np.roll(start[:, 3:], -1, -1))
    moved = start[:, :3] + np.tanh(actions[:, 3:6])
    return np.concatenate([moved, np.roll(turn.as_quat(), 1, -1), actions[:, 7:]], -1).astype(np.float32)


def test_a_chain_of_all_formats_ends_where_it_began(demos, tmp_path):
    path = demos
    for name in [*OTHERS, *OTHERS[::-1], "geoflow"]:
        path = convert(path, tmp_path / f"{len(os.listdir(tmp_path))}-{name}", to_format=name).path
    assert_same(demos, path)


@pytest.mark.parametrize("name", OTHERS)
def test_images_survive_and_what_is_filmed_nearly_does(pictures, name):
    back = there_and_back(pictures, name)
    assert_same(pictures, back, lossy=("even",) if name == "lerobot" else ())
    with Demonstrations(pictures) as first, Demonstrations(back) as second:
        for x, y in zip(first, second, strict=True):
            difference = np.abs(x.obs["even"].astype(int) - y.obs["even"])
            assert difference.mean() < 4, name
            # In order, and of the right episode: every frame is nearest to its own.
            apart = np.abs(x.obs["even"][:, None].astype(int) - y.obs["even"][None]).mean((-1, -2, -3))
            np.testing.assert_array_equal(apart.argmin(-1), np.arange(len(x)))


@pytest.mark.parametrize("name", OTHERS)
def test_points_text_and_embeddings_survive(tmp_path, name):
    kinds = {"tcp": "pose", "cloud": "points", "order": "text", "seen": "embedding", "tokens": "embedding"}

    def more(x: Episode, rng: np.random.Generator) -> Episode:
        n = len(x)
        obs = {
            "tcp": x.obs["tcp"],
            "cloud": rng.normal(size=(n, 20, 6)).astype(np.float32),
            "order": np.tile(np.frombuffer(b"insert the peg\0\0", np.uint8), (n, 1)),
            "seen": rng.normal(size=(n, 9)).astype(np.float32),
            "tokens": rng.normal(size=(n, 4, 3)).astype(np.float32),
        }
        return replace(x, obs=obs)

    rng = np.random.default_rng(0)
    write(
        tmp_path / "rich.h5",
        replace(CHEAP_META, observation_kinds=kinds),
        [more(episode(i), rng) for i in range(3)],
    )
    assert_same(tmp_path / "rich.h5", there_and_back(tmp_path / "rich.h5", name))


def test_datasets_of_many_files(pictures, monkeypatch):
    monkeypatch.setattr(files, "DATA_MB", 1e-6)
    monkeypatch.setattr(files, "VIDEO_MB", 1e-6)
    monkeypatch.setattr(files, "CHUNK", 3)
    assert_same(pictures, there_and_back(pictures, "lerobot"), lossy=("even",))
    written = {
        str(x.relative_to(pictures.parent / "other-lerobot")) for x in pictures.parent.rglob("file-*.parquet")
    }
    assert {"data/chunk-000/file-002.parquet", "data/chunk-001/file-000.parquet"} <= written


def test_replay_buffers_of_many_chunks_and_in_one_file(cheap, monkeypatch):
    create = diffusion_policy._create

    def small(group: Any, name: str, x: np.ndarray) -> Any:
        array = create(group, name, x)
        del group[name]
        return group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=(4, *array.shape[1:]))

    monkeypatch.setattr(diffusion_policy, "_create", small)
    assert_same(cheap, there_and_back(cheap, "diffusion_policy"))
    folder, archive = cheap.parent / "other-diffusion_policy", cheap.parent / "buffer.zarr.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(x for x in folder.rglob("*") if x.is_file()):
            file.write(path, path.relative_to(folder))
    assert_same(cheap, convert(archive, cheap.parent / "unzipped.h5").path)


@pytest.mark.parametrize("name", OTHERS)
def test_extras_of_our_own_files_may_be_anything(tmp_path, name):
    """As of a second arm; of others, numbers beyond [-1, 1] tell that the gripper's convention is another."""
    x = episode(0)
    wide = replace(x, actions=np.concatenate([x.actions, 7 * x.actions[:, :3]], -1))
    write(tmp_path / "wide.h5", CHEAP_META, [wide])
    assert_same(tmp_path / "wide.h5", there_and_back(tmp_path / "wide.h5", name))


def test_skipped_observations_are_gone(demos, tmp_path):
    convert(demos, tmp_path / "x.zarr", hints=Hints(skip=("socket", "gripper")))
    back = convert(tmp_path / "x.zarr", tmp_path / "x.h5", hints=Hints(skip=("peg",)))
    assert set(back.meta.observation_kinds) == {"tcp"}


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Of the readers and writers that hold rows themselves; what HDF5 and Arrow hold is not Python's."""

    def peak(count: int, name: str) -> int:
        source = tmp_path / f"{count}.h5"
        write(source, CHEAP_META, (episode(i, 3000) for i in range(count)))
        tracemalloc.start()
        made = convert(source, tmp_path / f"{count}-{name}", to_format=name)
        convert(made.path, tmp_path / f"{count}-{name}.h5")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    one = sum(x.nbytes for x in episode(0, 3000).obs.values()) + episode(0, 3000).actions.nbytes
    for name in OTHERS:
        assert peak(8, name) < peak(3, name) + 2 * one, name


# Conventions, against independent formulas.


@pytest.fixture
def some() -> Episode:
    return episode(5, 50)


def encoded(some: Episode, actions: Actions) -> np.ndarray:
    return actions.with_tcp(CHEAP_META.observation_kinds, "here").encode(some, "here")


def rotation(actions: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.roll(actions[:, 3:7], -1, axis=-1))


def test_rotation_vectors_are_scipys(some):
    x = encoded(some, Actions("absolute_rotvec"))
    assert x.shape == (50, 7)
    np.testing.assert_array_equal(x[:, :3], some.actions[:, :3])
    np.testing.assert_allclose(x[:, 3:6], rotation(some.actions).as_rotvec(), atol=1e-5)


def test_six_numbers_are_rows_as_pytorch3d_has_them_or_columns(some):
    """pytorch3d.transforms.matrix_to_rotation_6d is matrix[..., :2, :] in one row."""
    R = rotation(some.actions).as_matrix()
    rows, columns = (encoded(some, Actions(f"absolute_6d_{by}")) for by in ("rows", "columns"))
    assert rows.shape == (50, 10)
    np.testing.assert_allclose(rows[:, 3:9], R[:, :2, :].reshape(-1, 6), atol=1e-6)
    np.testing.assert_allclose(columns[:, 3:9], R[:, :, :2].transpose(0, 2, 1).reshape(-1, 6), atol=1e-6)


def test_deltas_are_robosuites(some):
    """goal_pos = pos + delta, goal_ori = R(delta) R(ee), in world axes, delta scaled by output_max."""
    some = replace(some, actions=with_pose(some.actions, some.obs["tcp"]))
    x = encoded(some, Actions("delta_rotvec", scale=(2.0, 3.0)))
    assert np.abs(x).max() <= 1
    np.testing.assert_allclose(some.obs["tcp"][:, :3] + 2 * x[:, :3], some.actions[:, :3], atol=1e-5)
    goal = Rotation.from_rotvec(3.0 * x[:, 3:6]) * rotation(some.obs["tcp"])
    assert (goal * rotation(some.actions).inv()).magnitude().max() < 1e-5


@pytest.mark.parametrize(("name", "opened", "closed"), [(name, *ends) for name, ends in GRIPPERS.items()])
def test_grippers(some, name, opened, closed):
    ends = replace(
        some, actions=np.concatenate([some.actions[:, :7], np.where(np.arange(50) % 2, 1, -1)[:, None]], -1)
    )
    x = encoded(ends, Actions(gripper=name))[:, 7]
    np.testing.assert_array_equal(x, np.where(np.arange(50) % 2, closed, opened))
    assert Actions().gripper == "closed_positive"  # what geoflow's own command is


# Files of others.


def square_like(path: Path, env_kwargs: dict[str, Any], actions: np.ndarray, tcp: np.ndarray, n: int) -> Path:
    """As robosuite and robomimic's dataset_states_to_obs leave it."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = len(actions)
        data.attrs["env_args"] = json.dumps(
            {"env_name": "NutAssemblySquare", "type": 1, "env_kwargs": env_kwargs}
        )
        for i in range(len(actions) // n):
            part = slice(i * n, (i + 1) * n)
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = n
            demo.attrs["model_file"] = "<mujoco/>"
            demo["actions"] = actions[part].astype(np.float64)
            demo["states"], demo["rewards"], demo["dones"] = np.zeros((n, 45)), np.zeros(n), np.zeros(n, int)
            for group in ("obs", "next_obs"):
                demo[f"{group}/robot0_eef_pos"] = tcp[part, :3].astype(np.float64)
                demo[f"{group}/robot0_eef_quat"] = np.roll(tcp[part, 3:].astype(np.float64), -1, -1)
                demo[f"{group}/object"] = np.zeros((n, 14))
                demo[f"{group}/agentview_image"] = np.zeros((n, 8, 8, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_0"])
    return path


def test_robosuites_deltas_are_understood_without_a_word(tmp_path):
    """The controller's scale, rate and axes are in env_args; goals are recomputed here by scipy."""
    rng = np.random.default_rng(0)
    tcp = poses(rng, 20)
    actions = rng.uniform(-1, 1, (20, 7)).astype(np.float32)
    controller = {"type": "OSC_POSE", "control_delta": True, "output_max": [0.05] * 3 + [0.5] * 3}
    kwargs = {"control_freq": 20, "robots": ["Panda"], "controller_configs": controller}
    made = convert(square_like(tmp_path / "square.hdf5", kwargs, actions, tcp, 10), tmp_path / "square.h5")
    assert made.read == Actions("delta_rotvec", "closed_positive", (0.05, 0.5), "robot0_eef")
    assert (made.meta.env_id, made.meta.control_hz) == ("NutAssemblySquare", 20.0)
    assert made.meta.observation_kinds == {
        "robot0_eef": "pose",
        "object": "vector",
        "agentview_image": "image",
    }
    with Demonstrations(made.path) as found:
        ours = np.concatenate([x.actions for x in found])
        np.testing.assert_array_equal(np.concatenate([x.obs["robot0_eef"] for x in found]), tcp)
    np.testing.assert_allclose(ours[:, :3], tcp[:, :3] + 0.05 * actions[:, :3], atol=1e-6)
    goal = Rotation.from_rotvec(0.5 * actions[:, 3:6]) * rotation(tcp)
    assert (goal * rotation(ours).inv()).magnitude().max() < 1e-5
    np.testing.assert_array_equal(ours[:, 7], actions[:, 6])


def test_robosuites_absolute_actions_are_understood(tmp_path):
    rng = np.random.default_rng(1)
    target = poses(rng, 10)
    actions = np.concatenate([target[:, :3], rotation(target).as_rotvec(), np.ones((10, 1))], -1)
    controller = {"type": "OSC_POSE", "control_delta": False, "output_max": 1}
    kwargs = {"control_freq": 20, "controller_configs": controller}
    made = convert(square_like(tmp_path / "abs.hdf5", kwargs, actions, target, 10), tmp_path / "abs.h5")
    with Demonstrations(made.path) as found:
        expected = np.concatenate([target, np.ones((10, 1), np.float32)], -1)
        assert_same_actions(expected, found[0].actions, 3e-6)


@pytest.mark.parametrize("frame", ["world", "base"])
def test_robosuites_newer_controllers_are_understood_in_world_axes(tmp_path, frame):
    part = {"type": "OSC_POSE", "input_type": "delta", "input_ref_frame": frame, "output_max": [0.1] * 6}
    kwargs = {"control_freq": 20, "controller_configs": {"type": "BASIC", "body_parts": {"right": part}}}
    rng = np.random.default_rng(4)
    source = square_like(tmp_path / "new.hdf5", kwargs, rng.uniform(-1, 1, (5, 7)), poses(rng, 5), 5)
    if frame == "base":
        with pytest.raises(DemonstrationError, match="does not say how its actions are written"):
            convert(source, tmp_path / "new.h5")
    else:
        assert convert(source, tmp_path / "new.h5").read.scale == (0.1, 0.1)


def test_the_site_of_the_grip_is_preferred_to_the_body_of_the_hand(tmp_path):
    """robosuite's absolute actions command the site, whose quaternion newer versions observe beside the body's."""
    rng = np.random.default_rng(6)
    tcp = poses(rng, 5)
    source = square_like(tmp_path / "site.hdf5", {"control_freq": 20}, np.zeros((5, 7)), tcp, 5)
    site = poses(rng, 5)[:, 3:]
    with h5py.File(source, "a") as file:
        file["data/demo_0/obs/robot0_eef_quat_site"] = np.roll(site, -1, -1)
    made = convert(source, tmp_path / "site.h5", from_actions=Asked("absolute_rotvec"))
    with Demonstrations(made.path) as found:
        assert set(found[0].obs) == {"robot0_eef", "object", "agentview_image"}
        np.testing.assert_array_equal(found[0].obs["robot0_eef"], np.concatenate([tcp[:, :3], site], -1))


def test_several_robots_and_strange_observations_are_refused(tmp_path):
    rng = np.random.default_rng(7)
    two = {"control_freq": 20, "robots": ["Panda", "Panda"]}
    source = square_like(tmp_path / "two.hdf5", two, np.zeros((5, 14)), poses(rng, 5), 5)
    with pytest.raises(DemonstrationError, match="is of 2 robots"):
        convert(source, tmp_path / "x.h5")
    source = square_like(tmp_path / "depth.hdf5", {"control_freq": 20}, np.zeros((5, 7)), poses(rng, 5), 5)
    with h5py.File(source, "a") as file:
        file["data/demo_0/obs/depth"] = np.zeros((5, 8, 8, 1), np.float32)
    asked = Asked("absolute_rotvec")
    with pytest.raises(DemonstrationError, match="leave it out with --skip depth"):
        convert(source, tmp_path / "x.h5", from_actions=asked)
    convert(source, tmp_path / "x.h5", from_actions=asked, hints=Hints(skip=("depth",)))


def test_diffusion_policys_own_buffer_is_read(tmp_path):
    """Written here by zarr alone, episodes of different lengths, float64, without a word of ours."""
    rng = np.random.default_rng(2)
    target = poses(rng, 30)
    rows = rotation(target).as_matrix()[:, :2, :].reshape(-1, 6)
    root = zarr.open_group(tmp_path / "square.zarr", mode="w", zarr_format=2)
    actions = np.concatenate([target[:, :3], rows, np.full((30, 1), -1.0)], -1)
    root.create_array("data/action", data=actions, chunks=(7, 10))
    root.create_array("data/robot0_eef_pos", data=target[:, :3], chunks=(11, 3))
    root.create_array("data/robot0_eef_quat", data=np.roll(target[:, 3:], -1, -1), chunks=(30, 4))
    root.create_array("data/robot0_gripper_qpos", data=rng.normal(size=(30, 2)), chunks=(30, 2))
    root.create_array("meta/episode_ends", data=np.array([4, 19, 30]))
    with pytest.raises(DemonstrationError, match="give --control-hz"):
        convert(tmp_path / "square.zarr", tmp_path / "square.h5")
    made = convert(tmp_path / "square.zarr", tmp_path / "square.h5", hints=Hints(control_hz=10.0))
    assert made.meta.observation_kinds == {"robot0_eef": "pose", "robot0_gripper_qpos": "vector"}
    with Demonstrations(made.path) as found:
        assert [len(x) for x in found] == [4, 15, 11]
        got = np.concatenate([x.actions for x in found])
        np.testing.assert_array_equal(np.concatenate([x.obs["robot0_eef"] for x in found]), target)
    assert_same_actions(np.concatenate([target, np.full((30, 1), -1, np.float32)], -1), got)


def lerobot_like(folder: Path, actions: np.ndarray, lengths: list[int], names: list[str] | None) -> Path:
    """By pyarrow alone: lists of any length, two episodes in the first file, row groups that cut episodes."""
    ends = np.cumsum(lengths)
    episodes = [np.arange(n) for n in lengths]
    rows = pa.table(
        {
            "observation.state": actions[:, :2].astype(np.float32).tolist(),
            "observation.force": actions[:, 0].astype(np.float32),
            "action": actions.astype(np.float32).tolist(),
            "timestamp": np.concatenate([x / 10 for x in episodes]).astype(np.float32),
            "episode_index": np.concatenate([np.full(n, i) for i, n in enumerate(lengths)]),
            "index": np.arange(len(actions)),
        }
    )
    (folder / "data" / "chunk-000").mkdir(parents=True)
    (folder / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    cut = int(ends[1])
    pq.write_table(rows.slice(0, cut), folder / "data/chunk-000/file-000.parquet", row_group_size=3)
    pq.write_table(rows.slice(cut), folder / "data/chunk-000/file-001.parquet", row_group_size=100)
    lines = {
        "episode_index": range(len(lengths)),
        "length": lengths,
        "data/chunk_index": [0] * len(lengths),
        "data/file_index": [0, 0] + [1] * (len(lengths) - 2),
        "stats/action/mean": [[0.0]] * len(lengths),
    }
    pq.write_table(
        pa.table({k: list(x) for k, x in lines.items()}), folder / "meta/episodes/chunk-000/file-000.parquet"
    )
    pq.write_table(pa.table({"task_index": [0], "task": ["put it there"]}), folder / "meta/tasks.parquet")
    feature = {"dtype": "float32", "names": None}
    info = {
        "codebase_version": "v3.0",
        "fps": 10,
        "robot_type": "so100",
        "total_episodes": len(lengths),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": {
            "observation.state": feature | {"shape": [2]},
            "observation.force": feature | {"shape": [1]},
            "action": feature | {"shape": [actions.shape[1]], "names": names},
            "timestamp": feature | {"shape": [1]},
        },
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def test_a_lerobot_dataset_of_others_is_read_by_its_names_or_asks(tmp_path):
    actions = np.concatenate([poses(np.random.default_rng(3), 26), np.full((26, 1), 0.25, np.float32)], -1)
    named = lerobot_like(
        tmp_path / "named", actions, [5, 7, 4, 10], ["x", "y", "z", "qw", "qx", "qy", "qz", "jaw"]
    )
    made = convert(named, tmp_path / "named.h5")
    assert made.meta.settings["tasks"] == ["put it there"]
    with Demonstrations(made.path) as found:
        assert [len(x) for x in found] == [5, 7, 4, 10]
        np.testing.assert_array_equal(np.concatenate([x.actions for x in found]), actions)
        np.testing.assert_array_equal(np.concatenate([x.obs["force"] for x in found]), actions[:, :1])
    mute = lerobot_like(tmp_path / "mute", actions, [5, 7, 4, 10], None)
    with pytest.raises(
        DemonstrationError, match="does not say how its actions are written; give --from-actions"
    ):
        convert(mute, tmp_path / "mute.h5")
    asked = Asked("absolute_wxyz", "closed_unit")
    with Demonstrations(convert(mute, tmp_path / "mute.h5", from_actions=asked).path) as found:
        np.testing.assert_allclose(found[0].actions[:, 7], -0.5)


def test_minari_itself_reads_what_is_written(demos, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    convert(demos, tmp_path / "datasets" / "insert" / "expert-v0", to_format="minari")
    dataset = minari.load_dataset("insert/expert-v0")
    assert set(minari.list_local_datasets()) == {"insert/expert-v0"}
    with Demonstrations(demos) as ours:
        assert dataset.total_episodes == len(ours)
        for theirs, mine in zip(dataset.iterate_episodes(), ours, strict=True):
            np.testing.assert_array_equal(theirs.actions, mine.actions)
            np.testing.assert_array_equal(theirs.observations["peg"][:-1], mine.obs["peg"])
            assert len(theirs.observations["peg"]) == len(mine) + 1
            assert dataset.observation_space.contains({name: x[0] for name, x in theirs.observations.items()})
            assert dataset.action_space.contains(theirs.actions[0])
            assert theirs.terminations[-1]
            assert theirs.rewards.sum() == 1


def test_what_minari_itself_writes_is_read(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    box = spaces.Box(-np.inf, np.inf, (7,), np.float32)
    space = spaces.Dict({"tcp": box, "deep": spaces.Dict({"er": spaces.Box(-9, 9, (2,), np.float64)})})
    buffers = []
    for i in range(3):
        x = episode(i, 5 + i)
        tcp = np.concatenate([x.obs["tcp"], x.obs["tcp"][-1:]])
        deep = {"er": np.full((6 + i, 2), float(i))}
        flags = np.zeros(5 + i, bool)
        buffers.append(
            EpisodeBuffer(
                id=i,
                seed=i,
                observations={"tcp": tcp, "deep": deep},
                actions=x.actions,
                rewards=np.zeros(5 + i),
                terminations=flags,
                truncations=flags,
                infos={},
            )
        )
    action_space = spaces.Box(-np.inf, np.inf, (8,), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            "foreign-v0", buffers, observation_space=space, action_space=action_space, data_format="hdf5"
        )
    hints = Hints(control_hz=20.0, poses={"tcp": "wxyz"})
    source = tmp_path / "datasets" / "foreign-v0"
    made = convert(source, tmp_path / "f.h5", from_actions=Asked("absolute_wxyz"), hints=hints)
    assert made.meta.observation_kinds == {"tcp": "pose", "deep.er": "vector"}
    with Demonstrations(made.path) as found:
        for i, x in enumerate(found):
            np.testing.assert_array_equal(x.actions, episode(i, 5 + i).actions)
            np.testing.assert_array_equal(x.obs["tcp"], episode(i, 5 + i).obs["tcp"])
            assert x.seed == i


def test_the_tasks_of_a_lerobot_dataset_are_indexed_as_pandas_wants(demos, tmp_path):
    convert(demos, tmp_path / "le", to_format="lerobot")
    schema = pq.read_schema(tmp_path / "le" / "meta" / "tasks.parquet")
    assert json.loads(schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_statistics_of_a_lerobot_dataset_are_numpys(demos, tmp_path):
    convert(demos, tmp_path / "le", to_format="lerobot")
    found = json.loads((tmp_path / "le" / "meta" / "stats.json").read_text())["action"]
    with Demonstrations(demos) as ours:
        x = np.concatenate([episode.actions for episode in ours]).astype(np.float64)
    expected = {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0), "count": [len(x)]}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12)


# What goes wrong.


def sentence(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line with which ``geoflow data convert`` refuses."""
    with pytest.raises(SystemExit) as exit_:
        main(["data", "convert", *map(str, words)])
    assert exit_.value.code == 2
    lines = [
        line for line in capsys.readouterr().err.splitlines() if not line.startswith("convert:") and line
    ]
    assert len(lines) == 1, lines
    assert lines[0].startswith("geoflow: ")
    return lines[0]


def cut(path: Path) -> None:
    """Lose the second half."""
    os.truncate(path, path.stat().st_size // 2)


def lost_row(folder: Path) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 30), path)


def lost_chunk(folder: Path) -> None:
    (folder / "data" / "gripper" / "0.0").unlink()


DAMAGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "robomimic, truncated": ("robomimic", cut, "truncated|no known format"),
    "minari, truncated": ("minari", lambda p: cut(p / "data/main_data.hdf5"), "is truncated"),
    "minari, no data": (
        "minari",
        lambda p: (p / "data/main_data.hdf5").unlink(),
        "has no data/main_data.hdf5",
    ),
    "minari, no JSON": ("minari", lambda p: cut(p / "data/metadata.json"), "is no JSON"),
    "lerobot, truncated": ("lerobot", lambda p: cut(p / "data/chunk-000/file-000.parquet"), "cannot be read"),
    "lerobot, no JSON": ("lerobot", lambda p: cut(p / "meta/info.json"), "info.json cannot be read"),
    "lerobot, lost rows": ("lerobot", lost_row, "the dataset is incomplete"),
    "lerobot, header": ("lerobot", lambda p: cut(p / "meta/geoflow.json"), "is damaged"),
    "zarr, no JSON": (
        "diffusion_policy",
        lambda p: cut(p / "data/action/.zarray"),
        "is damaged or incomplete",
    ),
    "zarr, lost chunk": ("diffusion_policy", lost_chunk, "chunks of data/gripper are missing"),
    "zarr, truncated": ("diffusion_policy", lambda p: cut(p / "data/action/0.0"), "is damaged or incomplete"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_sources_are_refused_in_a_sentence(cheap, capsys, name):
    other, damage, expected = DAMAGES[name]
    source = convert(cheap, cheap.parent / "other", to_format=other).path
    damage(source)
    words = sentence(capsys, source, cheap.parent / "never.h5", "--from", other)
    assert any(part in words for part in expected.split("|")), words
    assert not (cheap.parent / "never.h5").exists()


VIDEO = "videos/observation.images.even/chunk-000/file-000.mp4"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda p: cut(p / VIDEO), "cannot be decoded|ends after"),
        (lambda p: (p / VIDEO).unlink(), "is missing"),
        (lambda p: (p / VIDEO).write_bytes(b"film"), "cannot be decoded"),
        (lambda p: repaint(p / "data/chunk-000/file-000.parquet"), "an image that cannot be decoded"),
    ],
    ids=["truncated film", "no film", "not a film", "not an image"],
)
def test_damaged_pictures_are_refused_in_a_sentence(pictures, capsys, damage, expected):
    source = convert(pictures, pictures.parent / "other", to_format="lerobot").path
    damage(source)
    words = sentence(capsys, source, pictures.parent / "never.h5")
    assert any(part in words for part in expected.split("|")), words
    assert not (pictures.parent / "never.h5").exists()


def repaint(path: Path) -> None:
    """Put something else in the place of images."""
    rows = pq.read_table(path)
    index = rows.schema.get_field_index("observation.images.odd")
    values = pa.array([{"bytes": b"paint", "path": None}] * len(rows), rows.schema.field(index).type)
    pq.write_table(rows.set_column(index, rows.schema.field(index), values), path)


@pytest.mark.parametrize("name", OTHERS)
def test_bytes_changed_anywhere_end_in_a_sentence_or_in_a_conversion(pictures, name):
    source = convert(pictures, pictures.parent / "source", to_format=name).path
    files = sorted(contents(source))
    rng = np.random.default_rng(0)
    for _ in range(25):
        path = Path(files[rng.integers(len(files))])
        whole = path.read_bytes()
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 20)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged if rng.random() < 0.7 else damaged[: rng.integers(len(damaged))])
        with suppress(DemonstrationError):  # and nothing else
            convert(source, pictures.parent / "x.h5", from_format=name, overwrite=True)
        path.write_bytes(whole)
    assert_same(pictures, convert(source, pictures.parent / "x.h5", overwrite=True).path, lossy=("even",))


def test_what_is_not_known_is_asked_for_in_a_sentence(cheap, tmp_path, capsys):
    (tmp_path / "text.hdf5").write_text("not a dataset")
    (tmp_path / "folder").mkdir()
    robomimic = convert(cheap, tmp_path / "r.hdf5", to_format="robomimic").path
    cases = [
        ([cheap, "x"], "does not tell the format to write; give --to"),
        ([cheap, "x", "--to", "lerbot"], "did you mean lerobot?"),
        ([cheap, "x", "--to", "lerobot", "--to-actions", "absolute_rotvex"], "did you mean absolute_rotvec?"),
        ([cheap, "x", "--to", "lerobot", "--to-gripper", "open"], "known are closed_positive"),
        ([cheap, "x.h5", "--to-actions", "absolute_rotvec"], "is always absolute_wxyz"),
        (
            [cheap, "x", "--to", "lerobot", "--to-actions", "delta_rotvec", "--tcp", "hand"],
            "'hand', is not among them",
        ),
        (
            [cheap, "x", "--to", "robomimic", "--to-actions", "delta_rotvec", "--to-scale", "0.05", "0.5"],
            "robosuite would clip it",
        ),
        (
            [cheap, "x", "--to", "minari", "--to-scale", "0", "1", "--to-actions", "delta_rotvec"],
            "two positive numbers",
        ),
        ([cheap, "a b", "--to", "minari"], "is no id of a Minari dataset"),
        ([cheap, cheap, "--overwrite"], "is the source"),
        ([tmp_path / "nothing", "x.h5"], "does not exist"),
        ([tmp_path / "text.hdf5", "x.h5"], "is a file of no known format"),
        ([tmp_path / "text.hdf5", "x.h5", "--from", "robomimic"], "is not an HDF5 file"),
        ([tmp_path / "folder", "x.h5"], "is a folder of no known format"),
        ([robomimic, "x.h5", "--from-actions", "absolute_wxyz"], "says of its actions: absolute_rotvec"),
        ([robomimic, "x.h5", "--control-hz", "10"], "says 20 actions a second, --control-hz says 10"),
        ([cheap, "x.zarr", "--skip", "tcp", "gripper"], "--skip leaves no observation"),
        ([cheap, "x.zarr", "--poses", "tcp:xywz"], "expected NAME, NAME:wxyz or NAME:xyzw"),
    ]
    for words, expected in cases:
        words = [tmp_path / word if word in ("x", "x.h5", "x.zarr", "a b") else word for word in words]
        assert expected in sentence(capsys, *words), words
        assert not list(tmp_path.glob("x*")), words


def test_an_existing_destination_is_never_damaged(cheap, tmp_path, capsys):
    source = convert(cheap, tmp_path / "source.zarr").path
    broken = zarr.open_group(source, mode="r+")["data/action"]
    broken[-1, 3:9] = 0  # type: ignore[index]  the last episode is no rotation
    for name, dest in (("geoflow", "d.h5"), *((name, f"d-{name}") for name in OTHERS)):
        made = convert(cheap, tmp_path / dest, to_format=name).path
        before = contents(made)
        assert "exists; use --overwrite" in sentence(capsys, cheap, made, "--to", name)
        assert contents(made) == before
        assert "orthonormal" in sentence(capsys, source, made, "--to", name, "--overwrite")
        assert contents(made) == before
        assert not list(tmp_path.glob(".*")), name
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years")
    assert "no known format" in sentence(capsys, cheap, precious, "--to", "lerobot", "--overwrite")
    assert (precious / "thesis.tex").read_text() == "years"


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(x for x in path.rglob("*") if x.is_file())
    return {str(x): x.read_bytes() for x in files}


@pytest.mark.parametrize(("module", "name"), [("zarr", "diffusion_policy"), ("pyarrow", "lerobot")])
def test_a_missing_library_is_named_with_its_extra(cheap, tmp_path, capsys, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    words = sentence(capsys, cheap, tmp_path / "x", "--to", name)
    assert f"needs {module}; install it with: pip install 'geoflow[formats]'" in words
    assert not (tmp_path / "x").exists()


class Boom:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("where", ["data/action", "data/extra", "meta/names"])
@pytest.mark.parametrize("how", ["filter", "compressor"])
def test_nothing_is_unpickled(cheap, tmp_path, where, how):
    import pickle

    source = convert(cheap, tmp_path / "evil.zarr").path
    folder, trap = source / where, tmp_path / "trap"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    codec = {"id": Pickle.codec_id, "protocol": 5}
    description = {
        "zarr_format": 2,
        "shape": [174],
        "chunks": [174],
        "dtype": "|O" if how == "filter" else "<f4",
        "fill_value": None,
        "order": "C",
        "filters": [codec] if how == "filter" else None,
        "compressor": codec if how == "compressor" else None,
    }
    (folder / ".zarray").write_text(json.dumps(description))
    (folder / "0").write_bytes(pickle.dumps(Boom(str(trap))))
    with pytest.raises(DemonstrationError, match="unpickles nothing"):
        convert(source, tmp_path / "x.h5")
    assert not trap.exists()


def test_a_path_out_of_a_lerobot_dataset_is_refused(cheap, tmp_path):
    source = convert(cheap, tmp_path / "le", to_format="lerobot").path
    info = json.loads((source / "meta/info.json").read_text())
    info["data_path"] = "../../elsewhere-{chunk_index}-{file_index}.parquet"
    (source / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DemonstrationError, match="leads out of the dataset"):
        convert(source, tmp_path / "x.h5")


def test_old_versions_and_other_backends_say_what_to_do(cheap, tmp_path):
    source = convert(cheap, tmp_path / "le", to_format="lerobot").path
    info = json.loads((source / "meta/info.json").read_text())
    (source / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(DemonstrationError, match="convert_dataset_v21_to_v30"):
        convert(source, tmp_path / "x.h5")
    source = convert(cheap, tmp_path / "minari-v0", to_format="minari").path
    metadata = json.loads((source / "data/metadata.json").read_text())
    (source / "data/metadata.json").write_text(json.dumps(metadata | {"data_format": "arrow"}))
    with pytest.raises(DemonstrationError, match="arrow backend; geoflow reads its hdf5 backend"):
        convert(source, tmp_path / "x.h5")


def test_wrong_conventions_are_noticed(cheap, tmp_path):
    """Numbers that cannot be what they are said to be; what could be is not noticed, and cannot be."""
    source = convert(cheap, tmp_path / "x.hdf5", to_format="robomimic").path
    with h5py.File(source, "a") as file:
        del file["data"].attrs["geoflow"]
        env = json.loads(file["data"].attrs["env_args"])
        file["data"].attrs["env_args"] = json.dumps(env | {"env_kwargs": {"control_freq": 20}})
    for name, expected in {
        "absolute_6d_rows": "needs (N, 9 + k) numbers",
        "absolute_wxyz": "unit quaternions",
        "delta_rotvec": None,
    }.items():
        if expected is None:
            convert(source, tmp_path / "y.h5", from_actions=Asked(name))
            continue
        with pytest.raises(DemonstrationError) as error:
            convert(source, tmp_path / "y.h5", from_actions=Asked(name))
        assert expected in str(error.value)
    with pytest.raises(DemonstrationError, match="which is no gripper command of closed_unit"):
        convert(source, tmp_path / "z.h5", from_actions=Asked("absolute_rotvec", "closed_unit"))


def test_the_command_ends_with_the_path(demos, tmp_path):
    command = [sys.executable, "-m", "geoflow.cli", "data", "convert", str(demos), str(tmp_path / "x.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == str(tmp_path / "x.zarr")
    assert "geoflow absolute_wxyz" in done.stdout
    assert "absolute_6d_rows" in done.stdout
    note = json.loads((tmp_path / "x.zarr.json").read_text())
    assert note["settings"]["written"]["convention"] == "absolute_6d_rows"
    assert note["versions"]["geoflow"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # zarr warns of files that are not its own
        assert {name for name, _ in zarr.open_group(tmp_path / "x.zarr", mode="r").members()} == {
            "data",
            "meta",
        }


def test_rows_of_the_table_are_whole():
    for name, row in table.FORMATS.items():
        module = table.module(name)
        assert all(callable(getattr(module, verb)) for verb in ("recognises", "read", "write"))
        assert row.writes in CONVENTIONS
        assert row.assumes in ("", *CONVENTIONS)
