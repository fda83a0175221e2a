"""What is written is what is read; a file that breaks a convention is refused in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from geoflow.data.demonstrations import DemonstrationError, Demonstrations, Episode, Meta, write
from geoflow.data.info import describe

META = Meta(
    env_id="geoflow_envs:geoflow/TiltedPegInsert-v0",
    env_kwargs={"level": 1, "tilt_range": [0.0, 0.5]},
    control_hz=20.0,
    observation_kinds={"tcp": "pose", "gripper": "vector", "camera": "image"},
    versions={"geoflow": "0.1.0"},
    settings={"seed": 3, "episodes": 3},
    attempts=5,
    failures={"no_grasp": 2},
)


def poses(rng: np.random.Generator, n: int) -> np.ndarray:
    quaternions = rng.normal(size=(n, 4))
    quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
    return np.concatenate([rng.normal(size=(n, 3)), quaternions], -1).astype(np.float32)


def episode(seed: int, n: int = 9) -> Episode:
    rng = np.random.default_rng(seed)
    obs = {
        "tcp": poses(rng, n),
        "gripper": rng.uniform(-1, 1, (n, 1)).astype(np.float32),
        "camera": rng.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8),
    }
    actions = np.concatenate([poses(rng, n), rng.uniform(-1, 1, (n, 1))], -1).astype(np.float32)
    return Episode(obs, actions, rng.uniform(size=n) < 0.3, seed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "demos.h5"
    write(path, META, (episode(i, 9 + i) for i in range(12)))
    return path


def assert_same(a: Episode, b: Episode) -> None:
    assert (a.seed, a.success, a.failure) == (b.seed, b.success, b.failure)
    columns = [(a.actions, b.actions), (a.disturbed, b.disturbed)]
    assert a.obs.keys() == b.obs.keys()
    for x, y in columns + [(a.obs[name], b.obs[name]) for name in a.obs]:
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_what_is_written_is_read(path):
    with Demonstrations(path) as demonstrations:
        assert demonstrations.meta == META
        assert len(demonstrations) == 12
        for i, found in enumerate(demonstrations):  # demo_10 comes after demo_9, not after demo_1
            assert_same(found, episode(i, 9 + i))
        assert_same(demonstrations[-1], episode(11, 20))
    assert len(demonstrations) == 12
    assert os.listdir(path.parent) == [path.name]


def test_the_layout_is_robomimics_and_is_stated_in_attributes(path):
    with h5py.File(path) as file:
        data = file["data"]
        assert data["demo_0/obs/tcp"].shape == (9, 7)
        assert data["demo_0/actions"].shape == (9, 8)
        assert data["demo_3"].attrs["num_samples"] == 12
        assert data["demo_3"].attrs["seed"] == 3
        assert data.attrs["format"] == "geoflow-demonstrations"
        assert data.attrs["pose_convention"] == "xyz_wxyz"
        assert data.attrs["action_convention"] == "absolute_pose_world+extras"
        assert json.loads(data.attrs["observation_kinds"]) == META.observation_kinds


def test_the_same_episodes_give_the_same_bytes(tmp_path, path):
    write(tmp_path / "again.h5", META, [episode(i, 9 + i) for i in range(12)])
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_a_file_without_disturbances_is_read_as_undisturbed(path):
    with h5py.File(path, "a") as file:
        del file["data/demo_0/disturbed"]
    with Demonstrations(path) as demonstrations:
        assert not demonstrations[0].disturbed.any()


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(episodes: int) -> int:
        path = tmp_path / f"{episodes}.h5"
        write(path, META, (episode(i, 400) for i in range(episodes)))
        tracemalloc.start()
        with Demonstrations(path) as demonstrations:
            assert sum(len(found) for found in demonstrations) == 400 * episodes
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    one = episode(0, 400)
    size = one.actions.nbytes + sum(x.nbytes for x in one.obs.values())
    assert peak(40) < peak(4) + size


def attribute(key: str, value: object, where: str = "data") -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[where].attrs[key] = value

    return change


def column(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        x = np.array(file[f"data/demo_1/{name}"])
        del file[f"data/demo_1/{name}"]
        file[f"data/demo_1/{name}"] = change(x)

    return apply


def at(t: int, i: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        x[t, i] = value
        return x

    return change


def empty(file: h5py.File) -> None:
    for name in list(file["data"]):
        del file["data"][name]


def drop(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


WRONG_FILES = {
    "empty": (empty, ["holds no demonstration (5 attempts, 2 failed)", "geoflow collect"]),
    "of another convention": (
        attribute("pose_convention", "xyz_xyzw"),
        ["pose_convention 'xyz_xyzw'", "reads 'xyz_wxyz'", "convert"],
    ),
    "of relative actions": (
        attribute("action_convention", "delta"),
        ["action_convention 'delta'", "absolute"],
    ),
    "of another version": (attribute("format_version", 99), ["format_version 99", "reads 1"]),
    "of another format": (
        attribute("format", "robomimic"),
        ["'robomimic'", "expected 'geoflow-demonstrations'"],
    ),
    "without data": (drop("data"), ["another kind"]),
    "without actions": (drop("data/demo_0/actions"), ["cannot be read", "damaged or incomplete"]),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file_is_refused_when_opened(path, name):
    change, words = WRONG_FILES[name]
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(DemonstrationError) as caught:
        Demonstrations(path)
    assert_sentence(caught.value, [str(path), *words])


WRONG_EPISODES = {
    "NaN action": (column("actions", at(4, 2, np.nan)), ["actions", "step 4", "nan", "finite"]),
    "infinite observation": (column("obs/gripper", at(3, 0, np.inf)), ["obs/gripper", "step 3", "inf"]),
    "quaternion of norm 0": (
        column("obs/tcp", lambda x: x * np.r_[1, 1, 1, 0, 0, 0, 0].astype(np.float32)),
        ["obs/tcp", "norm 0 at step 0", "unit quaternions"],
    ),
    "long quaternion": (column("actions", at(5, 4, 3.0)), ["actions", "step 5", "qw qx qy qz"]),
    "short actions": (column("actions", lambda x: x[:, :6]), ["actions has shape (10, 6)", "(N, 7 + k)"]),
    "too few observations": (column("obs/tcp", lambda x: x[:-1]), ["obs/tcp has shape (9, 7)", "N = 10"]),
    "flat pose": (column("obs/tcp", lambda x: x[:, :3]), ["obs/tcp has shape (10, 3)", "(N, 7)"]),
    "whole numbers": (
        column("obs/gripper", lambda x: x.astype(int)),
        ["obs/gripper has dtype int64", "float32"],
    ),
    "colours as numbers": (
        column("obs/camera", lambda x: x.astype(np.float32) / 255),
        ["obs/camera has dtype float32", "uint8, 0 to 255"],
    ),
    "NaN depth": (
        column("obs/camera", lambda x: np.where(x[..., :1] < 5, np.nan, x[..., :1]).astype(np.float32)),
        ["obs/camera is not finite in", "every number must be finite"],
    ),
    "depth in whole numbers": (
        column("obs/camera", lambda x: x[..., :1].astype(np.uint16)),
        ["obs/camera has dtype uint16", "uint8 or float32"],
    ),
    "another width": (
        column("obs/gripper", lambda x: x.repeat(2, -1)),
        ["obs/gripper", "(2,)", "demo_0", "(1,)"],
    ),
    "no step": (column("actions", lambda x: x[:0]), ["has no step"]),
    "an observation missing": (
        drop("data/demo_1/obs/tcp"),
        ["['camera', 'gripper']", "['camera', 'gripper', 'tcp']"],
    ),
    "no actions": (drop("data/demo_1/actions"), ["cannot be read"]),
}


@pytest.mark.parametrize("name", WRONG_EPISODES)
def test_a_wrong_episode_is_refused_when_read(path, name):
    change, words = WRONG_EPISODES[name]
    with h5py.File(path, "a") as file:
        change(file)
    with Demonstrations(path) as demonstrations:
        assert_same(demonstrations[0], episode(0, 9))
        with pytest.raises(DemonstrationError) as caught:
            demonstrations[1]
    assert_sentence(caught.value, [f"{path}, demo_1", *words])


def test_an_unknown_kind_is_refused(path):
    with h5py.File(path, "a") as file:
        file["data"].attrs["observation_kinds"] = json.dumps({**META.observation_kinds, "tcp": "post"})
    with (
        Demonstrations(path) as demonstrations,
        pytest.raises(DemonstrationError, match="unknown kind 'post'"),
    ):
        demonstrations[0]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DemonstrationError, match=r"truncated|empty|not an HDF5 file") as caught:
        Demonstrations(path)
    assert_sentence(caught.value, [str(path)])


@pytest.mark.parametrize("content", [b"policy: {type: flow}\n", np.random.default_rng(0).bytes(5000)])
def test_something_else_is_refused(tmp_path, content):
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(DemonstrationError, match="is not an HDF5 file"):
        Demonstrations(tmp_path / "x.h5")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5 does not exist"):
        Demonstrations(tmp_path / "nothing.h5")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        Demonstrations(tmp_path)


def test_another_task_and_another_rate_are_refused(path):
    with Demonstrations(path) as demonstrations:
        demonstrations.expect("geoflow/TiltedPegInsert-v0", 20)  # where it is registered does not matter
        with pytest.raises(
            DemonstrationError, match=r"recorded in .*TiltedPegInsert.*, but my:Lab/Cup-v0"
        ) as task:
            demonstrations.expect("my:Lab/Cup-v0")
        with pytest.raises(
            DemonstrationError, match="20 actions a second, but the environment runs at 10"
        ) as rate:
            demonstrations.expect(control_hz=10)
    assert_sentence(task.value, [str(path)])
    assert_sentence(rate.value, [str(path)])


def test_a_wrong_episode_is_not_written_and_the_old_file_stays(path):
    before = path.read_bytes()
    good = episode(0)
    bad = replace(good, actions=np.where(np.arange(8) == 2, np.nan, good.actions).astype(np.float32))
    with pytest.raises(DemonstrationError, match=r"episode 1 \(seed 0\).*finite"):
        write(path, META, [good, bad])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


# The writer in a process of its own, with little room (a file may have so many bytes), or that is killed.
WRITER = """
import os, resource, signal, sys
from tests.data.test_demonstrations import META, episode, write
limit, kill, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def episodes():
    for i in range(60):
        if i == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        yield episode(i)
try:
    write(path, META, episodes())
except OSError as error:
    sys.exit(f"{error.strerror} {error.filename}")
"""


def run_writer(path: Path, limit: int = 0, kill: int = -1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WRITER, str(limit), str(kill), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("limit", [0, 1000, 100_000])
def test_without_room_the_old_file_stays(path, limit):
    before = path.read_bytes()
    done = run_writer(path, limit or 1)
    assert (done.returncode, done.stderr.strip()) == (1, f"File too large {path}")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_killed_writer_leaves_the_old_file(path):
    before = path.read_bytes()
    assert run_writer(path, kill=30).returncode == -9
    assert path.read_bytes() == before
    with Demonstrations(path) as demonstrations:
        assert len(demonstrations) == 12


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    """/dev/full refuses every byte; a link of the temporary file's name leads there."""
    target = tmp_path / "demos.h5"
    (tmp_path / f".demos.h5.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write(target, META, [episode(0)])
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_is_an_error_of_the_system(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(OSError, match="x"):
        write(tmp_path / "x" / "demos.h5", META, [episode(0)])


def test_a_description_tells_what_the_file_holds(path):
    text = describe(path)
    for words in (
        "12, 174 steps",
        "9 to 20",
        "5, no_grasp 2",
        "at 20 Hz",
        "pose (7,)",
        "image (4, 5, 3)",
        "seed 3",
    ):
        assert words in text
    shutil.copy(path, path.with_name("bad.h5"))
    with h5py.File(path.with_name("bad.h5"), "a") as file:
        column("actions", at(4, 2, np.nan))(file)
    with pytest.raises(DemonstrationError, match="demo_1"):
        describe(path.with_name("bad.h5"))


def assert_sentence(error: Exception, words: list[str]) -> None:
    assert "\n" not in str(error)
    for word in words:
        assert word in str(error)
