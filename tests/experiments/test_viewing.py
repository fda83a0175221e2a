"""Watching: shapes that a screen draws, a film that can be read back, and one sentence where nothing can be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from geoflow.experiments import screens
from geoflow.experiments.config import EnvConfig
from geoflow.experiments.environments import make_env
from geoflow.experiments.screens import Marks, choose
from geoflow.experiments.task_names import known_tasks
from geoflow.experiments.viewing import Beat, PolicyActor, view
from geoflow.policies.config import PolicyConfig
from geoflow.policies.spec import PolicySpec

make_env(EnvConfig(known_tasks()["WireLoop"])).close()  # chooses OpenGL before MuJoCo is imported
import mujoco  # noqa: E402

from geoflow.experiments.screens.axes import CHUNK_LENGTH, add_axes, draw  # noqa: E402
from geoflow.experiments.screens.shapes import colour, shape  # noqa: E402
from geoflow.experiments.screens.window import key_name  # noqa: E402

MJ: Any = mujoco
GEOMS = {
    "box": ('type="box" size=".1 .2 .3"', 8 * 0.1 * 0.2 * 0.3, 1e-9),
    "sphere": ('type="sphere" size=".2"', 4 / 3 * np.pi * 0.2**3, 0.04),
    "ellipsoid": ('type="ellipsoid" size=".1 .2 .3"', 4 / 3 * np.pi * 0.1 * 0.2 * 0.3, 0.04),
    "capsule": ('type="capsule" size=".1 .3"', np.pi * 0.1**2 * 0.6 + 4 / 3 * np.pi * 0.1**3, 0.03),
    "cylinder": ('type="cylinder" size=".1 .3"', np.pi * 0.1**2 * 0.6, 0.02),
    "mesh": ('type="mesh" mesh="wedge"', 1 / 6 * 0.2 * 0.3 * 0.4, 1e-6),
}
"""Kind -> MJCF, its volume [m^3] and how much of it the triangles may miss."""


def geom(attributes: str) -> Any:
    wedge = '<asset><mesh name="wedge" vertex="0 0 0 .2 0 0 0 .3 0 0 0 .4"/></asset>'
    return MJ.MjModel.from_xml_string(f"<mujoco>{wedge}<worldbody><geom {attributes}/></worldbody></mujoco>")


@pytest.mark.parametrize("kind", GEOMS)
def test_a_shape_is_closed_faces_outward_and_has_the_geoms_volume(kind: str):
    """The divergence theorem over the triangles, V = sum a . (b x c) / 6, is the volume of the hull and the geom's."""
    attributes, volume, missing = GEOMS[kind]
    vertices, faces = shape(geom(attributes), 0)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    enclosed = float((a * np.cross(b, c)).sum() / 6)
    assert enclosed == pytest.approx(ConvexHull(vertices).volume, rel=1e-5)
    assert (1 - missing) * volume <= enclosed <= volume * (1 + 1e-5)


def test_a_geom_has_its_own_colour_its_materials_or_the_mean_of_its_texture():
    assert colour(geom('type="sphere" size=".1" rgba=".1 .2 .3 .4"'), 0) == pytest.approx(
        [0.1, 0.2, 0.3, 0.4]
    )
    model = MJ.MjModel.from_xml_string(
        '<mujoco><asset><texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 0 1" width="8" height="8"/>'
        '<material name="m" texture="t" rgba=".5 1 1 1"/></asset>'
        '<worldbody><geom type="sphere" size=".1" material="m"/></worldbody></mujoco>'
    )
    assert colour(model, 0) == pytest.approx([0.25, 0, 0.5, 1], abs=0.01)


def test_axes_stand_where_the_pose_does():
    """Each drawn capsule lies along one column of R, from the pose's position."""
    scene = MJ.MjvScene(geom(GEOMS["box"][0]), maxgeom=10)
    rotation = Rotation.from_rotvec([0.3, -1.0, 0.7])
    position = np.array([0.1, -0.2, 0.3])
    add_axes(scene, np.r_[position, np.roll(rotation.as_quat(), 1), 1.0], 0.08, 0.002)
    assert scene.ngeom == 3
    for i in range(3):
        drawn = scene.geoms[i]
        axis = rotation.as_matrix()[:, i]
        np.testing.assert_allclose(drawn.pos, position + 0.04 * axis, atol=1e-6)
        np.testing.assert_allclose(np.abs(drawn.mat[:, 2] @ axis), 1, atol=1e-6)
        assert int(np.argmax(drawn.rgba[:3])) == i
    chunk = np.tile(np.r_[position, 1, 0, 0, 0], (16, 1))
    draw(scene, Marks(chunk=chunk))
    assert scene.ngeom == 10  # full, and no error
    assert CHUNK_LENGTH > 0


def test_keys_have_names():
    codes = (ord("W"), ord("3"), 257, 335, 259, 256, ord(" "), 340, 0)
    names = ["W", "3", "enter", "enter", "backspace", "escape", "", "", ""]
    assert [key_name(code) for code in codes] == names


# --- films ---


def film(out: Path, **options: Any) -> Path:
    try:
        made = view("KeyTurn", {"level": 0}, out=out, size=(96, 64), **options)
    except ValueError as error:
        assert "a film needs OpenGL" in str(error)  # noqa: PT017
        pytest.skip("no OpenGL here")
    assert made == out
    return out


def test_a_gif_holds_every_second_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from PIL import Image

    with Image.open(film(tmp_path / "key.gif", seed=1)) as gif:
        said = capsys.readouterr().out
        assert said.startswith("seed 1: solved after ")
        seconds = float(said.split()[4])
        assert gif.size == (96, 64)
        assert gif.info["duration"] == 100
        pictures = []
        for i in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(i)
            pictures.append(np.asarray(gif.convert("RGB")).astype(int))
    assert len(pictures) <= 10 * seconds + 2  # equal frames may be one, shown longer
    assert len(pictures) > 5 * seconds
    assert np.abs(pictures[0] - pictures[-2]).max() > 50


def test_an_mp4_can_be_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import imageio.v3 as iio

    frames = iio.imread(film(tmp_path / "key.mp4", seed=1, camera="side"))
    seconds = float(capsys.readouterr().out.split()[4])
    assert frames.shape[1:] == (64, 96, 3)
    assert len(frames) == pytest.approx(20 * (seconds + 1) + 1, abs=2)
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_filmed_ends_in_a_sentence(tmp_path: Path):
    with pytest.raises(ValueError, match=r"--out film.avi: a film ends in .mp4 or .gif"):
        view("KeyTurn", out=Path("film.avi"))
    with pytest.raises(ValueError, match=r"size is width and height .* got \(31, 20\)"):
        view("KeyTurn", out=tmp_path / "x.gif", size=(31, 20))
    with pytest.raises(ValueError, match=r"camera must be one of .*front.*; got 'top'"):
        view("KeyTurn", out=tmp_path / "x.gif", camera="top", size=(32, 32))
    with pytest.raises(ValueError, match="speed=0, episodes=0; speed is above 0"):
        view("KeyTurn", speed=0)
    with pytest.raises(ValueError, match="choice='best'; the expert chooses greedy or random"):
        view("KeyTurn", out=tmp_path / "x.gif", choice="best")
    with pytest.raises(ValueError, match="unknown task 'KeyTrun'; did you mean KeyTurn"):
        view("KeyTrun", out=tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


# --- screens ---


@pytest.mark.parametrize(
    ("kind", "display", "viser", "chosen"),
    [
        ("auto", True, True, "window"),
        ("auto", False, True, "browser"),
        ("auto", True, False, "window"),
        (
            "auto",
            False,
            False,
            "no display here, and no viser .* pip install 'geoflow\\[view\\]', or make a film",
        ),
        ("window", False, True, "needs a display, and there is none here; try --screen browser"),
        ("browser", True, False, "needs viser; install it with: pip install 'geoflow\\[view\\]'"),
        ("browser", True, True, "browser"),
        ("tv", True, True, "screen must be one of auto, window, browser; got 'tv'"),
    ],
)
def test_the_screen_is_one_that_is_there(
    kind: str, display: bool, viser: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(screens, "has_display", lambda: display)
    monkeypatch.setattr(screens, "find_spec", lambda name: object() if viser else None)
    if chosen in screens.KINDS:
        assert choose(kind) == chosen
        return
    with pytest.raises(ValueError, match=chosen):
        choose(kind)


def test_a_task_without_physics_cannot_be_shown():
    env = make_env(EnvConfig("tests.reach_env:tests/Reach-v0"))
    with pytest.raises(ValueError, match=r"no env.unwrapped.model .* film it instead"):
        screens.open_screen("browser", env, "tests/Reach-v0")


def test_the_page_in_the_browser_follows_the_simulation():
    """Nodes stand where MuJoCo's bodies do, the chunk where it was predicted, and keys arrive in their order."""
    pytest.importorskip("viser")
    from geoflow.experiments.screens.browser import BrowserScreen

    env = make_env(EnvConfig(known_tasks()["KeyTurn"], {"level": 0}))
    obs, _ = env.reset(seed=0)
    base: Any = env.unwrapped
    screen = BrowserScreen(base.model, base.data, "test", port=0)
    try:
        expert = base.expert()
        for _ in range(3):
            obs = env.step(expert.act())[0]
        chunk = np.tile(obs["tcp"], (4, 1))
        for shown in (chunk, chunk[:2], None, chunk):
            screen.show(Marks(frame=obs["tcp"], chunk=shown, text="one\ntwo"))
        body = base.model.body("hand").id
        np.testing.assert_allclose(screen._bodies[body].position, obs["tcp"][:3], atol=1e-6)
        np.testing.assert_allclose(screen._bodies[body].wxyz, obs["tcp"][3:], atol=1e-6)
        np.testing.assert_allclose(screen._axes["/chunk"].batched_positions, chunk[:, :3], atol=1e-6)
        screen.show(Marks(frame=np.tile(obs["tcp"], 2), chunk=np.tile(chunk, 2)))  # of two arms
        assert [len(screen._axes[name].batched_positions) for name in ("/frame", "/chunk")] == [2, 8]
        assert screen.running
        screen.offer({"W": "away"})
        for key in ("W", "1"):
            screen._presser(key)(None)
        assert screen.keys() == ["W", "1"]
        assert screen.keys() == []
    finally:
        screen.close()
        env.close()
    assert not screen.running


# --- policies and time ---


class Counting:
    """Stands for a policy: its chunks are numbered, so that one sees which is executed."""

    config = PolicyConfig(execute=3, horizon=5, observation_steps=2)
    spec = PolicySpec("x/Y-v0", 20.0, {"tcp": "pose"}, {"tcp": (7,)}, 8)

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def act(self, obs: dict[str, Any], **_: Any) -> Any:
        import torch

        self.asked.append(obs["tcp"][0])
        return torch.arange(5.0)[None, :, None].repeat(1, 1, 8) + 100 * len(self.asked)

    def check_manner(self, *_: Any) -> None:
        """It can be executed in any."""


def test_a_policy_executes_part_of_each_chunk_and_shows_what_is_left_of_it():
    policy: Any = Counting()
    actor = PolicyActor(policy, "counting")
    actor.begin(None, 0)  # type: ignore[arg-type]
    actions = [actor.act({"tcp": np.array([i, 0, 0, 1, 0, 0, 0]), "other": 0})[0] for i in range(5)]
    assert actions == [100, 101, 102, 200, 201]
    assert actor.chunk is not None
    assert [row[0] for row in actor.chunk] == [201, 202, 203, 204]
    assert [past[:, 0].tolist() for past in policy.asked] == [[0, 0], [2, 3]]
    with pytest.raises(ValueError, match="execute=6; it lies between 1 and the policy's horizon 5"):
        PolicyActor(policy, "counting", execute=6)


def test_a_beat_of_no_period_never_waits_and_a_late_one_does_not_hurry(monkeypatch: pytest.MonkeyPatch):
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        now[0] += seconds

    monkeypatch.setattr("geoflow.experiments.viewing.time.monotonic", lambda: now[0])
    monkeypatch.setattr("geoflow.experiments.viewing.time.sleep", sleep)
    beat = Beat(0.1)
    for work in (0.02, 0.05, 0.5, 0.03):
        now[0] += work
        beat.wait()
    assert slept == [0.08, 0.05, 0.07]
    free = Beat(0.0)
    free.wait()
    free.pause(5)
    assert len(slept) == 3
