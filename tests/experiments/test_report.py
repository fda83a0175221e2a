"""The report: one page that carries everything, says what it must, and does without videos."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

import geoflow as gf
from geoflow.experiments.chunk_picture import SAMPLES, TIMES, chunk_picture, sample_flow
from geoflow.experiments.comparison import read_comparison
from geoflow.experiments.config import EnvConfig, EvaluateConfig
from geoflow.experiments.evaluation import evaluate
from geoflow.experiments.figures import FAILURE_COLOURS, palette
from geoflow.experiments.report import Pictures, compare, render
from geoflow.experiments.rollout import FAILURES, Solver
from geoflow.experiments.stages import Stage, Stages
from geoflow.experiments.video import EVERY, WIDTH, NoPictures, Shot, film
from geoflow.policies.base import PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution
from tests.experiments.conftest import REACH
from tests.experiments.synthetic import DDPM, EUCLIDEAN_FLOW, SE3_FLOW, write_run

VOID = {"meta", "img", "br", "link", "input", "hr"}
NFE_RATES = {1: 0.4, 2: 0.7, 4: 0.8, 10: 0.86, 100: 0.3}


class Page(HTMLParser):
    """A page as a check sees it: tags that balance, what it refers to, its words and table rows."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.sources, self.words, self.rows = [], [], [], 0
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.stack.append(tag)
        values = dict(attributes)
        self.sources += [
            values[name] for name in ("src", "href", "poster", "srcset", "data") if name in values
        ]
        if tag == "img":
            assert values["alt"]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag
        self.rows += tag == "tr"

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    policies = {"se3": SE3_FLOW, "euclidean": EUCLIDEAN_FLOW, "ddpm": DDPM}
    return read_comparison([write_run(folder / name, policy, NFE_RATES) for name, policy in policies.items()])


@pytest.fixture(scope="module")
def page(three):
    stages = [Stage("collect 300 demonstrations", 83, 912, "2,100 env steps/s", True)]
    return render(
        three, Pictures(missing="No videos here: no OpenGL."), stages, ["geoflow demo --out runs/demo"]
    )


def test_nothing_is_fetched_from_elsewhere(page):
    assert all(source.startswith("data:") for source in Page(page).sources)
    assert not re.search(r"url\(|@import|<script|<link", page)
    assert len(page) < 15e6


def test_it_says_what_was_compared(page, three):
    text = Page(page).text
    said = [
        "SE(3) flow against Euclidean flow and DDPM on TiltedPegInsert-v0",
        "level 1",
        "peg in hand at the start yes",
    ]
    said += ["4,000 steps of batch 256", "smoke run", "a processor, 2 cores", "torch 2.13.0", "0123456789ab"]
    said += [
        "geoflow demo --out runs/demo",
        "1 min 23 s",
        "912 MB",
        "2,100 env steps/s",
        "No videos here: no OpenGL.",
    ]
    said += [finding.text for finding in three.findings]
    for words in said:
        assert " ".join(words.split()) in text, words


def test_every_cell_stands_in_the_table(page, three):
    parsed = Page(page)
    assert parsed.rows == len(three.records) + 2 + 1  # two heads, one stage
    for record in three.records:
        assert f"{record['successes']} / {record['episodes']}" in parsed.text


def test_figures_are_pictures(page):
    """Every SVG parses, draws paths, and is no wider than it says."""
    figures = [s for s in Page(page).sources if s.startswith("data:image/svg+xml")]
    assert len(figures) == 4
    for source in figures:
        root = ElementTree.fromstring(base64.b64decode(source.split(",", 1)[1]))
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10


def test_names_from_outside_are_escaped(tmp_path):
    run = write_run(tmp_path / "<b>run", SE3_FLOW, 0.8)
    meta = json.loads((run / "config.json").read_text())
    meta["config"]["train"]["demos"] = "<script>alert(1)</script>.h5"
    (run / "config.json").write_text(json.dumps(meta))
    html = render(read_comparison([run]), Pictures(), [], [f"geoflow compare {run}"])
    assert "<script" not in html
    assert "<b>run" not in html


def test_one_policy_and_several_seeds_make_a_report(tmp_path):
    runs = [write_run(tmp_path / str(s), SE3_FLOW, 0.8 + 0.02 * s, seed=s) for s in range(3)]
    text = Page(render(read_comparison(runs), Pictures(), [], [])).text
    assert "smoke run" not in text
    assert "80 82 84" in text


# With a policy.


@pytest.fixture(scope="module")
def reached(reach_run, tmp_path_factory):
    run = shutil.copytree(reach_run, tmp_path_factory.mktemp("reached") / "run")
    evaluate(run, EvaluateConfig(episodes=4, nfe=(1, 2), workers=1))
    return run


@pytest.mark.slow
def test_an_env_without_pictures_gives_a_report_without_videos(reached, tmp_path):
    path = compare([reached], tmp_path / "report")
    parsed = Page(path.read_text())
    assert "No videos here:" in parsed.text
    assert "How noise becomes a chunk" in parsed.text
    assert [s[:20] for s in parsed.sources if s.startswith("data:image/png")]
    records = json.loads((path.parent / "comparison.json").read_text())
    assert [(record["nfe"], record["episodes"]) for record in records] == [(1, 4), (2, 4)]


def test_a_chunk_picture_begins_in_noise_and_ends_in_the_action(reached):
    """The last states are what the policy would do: the same noise gives `act`'s chunk."""
    policy = gf.load_policy(reached)
    obs, _ = gym.make(REACH.id, **REACH.kwargs).reset(seed=3)
    flow = sample_flow(policy, obs, seed=7)
    assert flow.states.shape == (len(TIMES), SAMPLES, policy.config.horizon, 1, 7)
    generators = [torch.Generator().manual_seed(7 + i) for i in range(SAMPLES)]
    batch = {name: np.repeat(value[None, None], SAMPLES, 0) for name, value in obs.items()}
    chunks = policy.act(batch, nfe=8, generator=generators).numpy()
    np.testing.assert_allclose(flow.states[-1, :, :, 0], chunks[..., :7], atol=1e-5)
    spread = flow.states[..., :3].std(1).mean((1, 2, 3))
    assert spread[-1] < spread[0]
    picture = Image.open(io.BytesIO(chunk_picture({"SE(3) flow": flow}, palette(["SE(3) flow"]))))
    assert picture.width > 3 * picture.height / 1.5
    assert len(np.unique(np.asarray(picture.convert("L")))) > 50


SPEC = PolicySpec("x/Y-v0", 20.0, {"tcp": "pose"}, {"tcp": (7,)}, 8)
QUARTERS = (0, 0.25, 0.5, 0.75, 1)


@pytest.mark.parametrize(
    ("options", "times"),
    [
        *(
            ({"solver": solver, "target": "velocity", "nfe": 12}, QUARTERS)
            for solver in ("midpoint", "rkmk3", "rkmk4")
        ),
        ({"type": "ddpm", "solver": "ddpm"}, QUARTERS),
        ({"grid": "dense_jump(0.6)"}, (0, 1.8 / 7, 3.6 / 7, 0.6, 1)),
        ({"type": "regression", "method": "Regression(steps=2)"}, (0, 0, 0.5, 0.5, 1)),
    ],
)
def test_a_chunk_is_shown_when_it_is_said_to_be(options, times):
    """Whatever the solver, states are of the times that stand over them: the nearest to quarters that there are."""
    policy = build_policy(PolicyConfig(width=16, depth=1, horizon=4, execute=2, **options), SPEC).eval()
    flow = sample_flow(policy, {"tcp": np.array([0.1, 0.2, 0.3, 1, 0, 0, 0], np.float32)})
    assert flow.states.shape == (len(TIMES), SAMPLES, 4, 1, 7)
    assert flow.times == pytest.approx(times)
    assert [(flow.states[i] == flow.states[i + 1]).all() for i in range(4)] == [
        a == b for a, b in pairwise(times)
    ]
    assert chunk_picture({"one": flow}, {"one": "#000000"})


def test_every_kind_of_failure_has_a_colour_of_its_own():
    assert set(FAILURE_COLOURS) == set(FAILURES)
    assert len({*FAILURE_COLOURS.values()}) == len(FAILURES)


@pytest.fixture(scope="module")
def shot(tmp_path_factory):
    """Twelve steps of an untrained policy at the peg."""
    env = EnvConfig(kwargs={"level": 0, "in_hand": True, "max_episode_steps": 12})
    run = _untrained_run(tmp_path_factory.mktemp("film"), env)
    return Shot(str(run), "SE(3) flow", env, Execution(8), Solver(1, "euler"), 1_000_000)


@pytest.mark.slow
def test_an_episode_is_filmed(shot):
    """A playable film of the right length and size, in which something moves."""
    try:
        (clip,) = film([shot])
    except NoPictures as error:
        pytest.skip(f"no pictures on this machine: {error}")
    frames = imageio.imread(clip.mp4, extension=".mp4", plugin="FFMPEG")
    assert len(frames) == pytest.approx(1 + 12 / EVERY + 10, abs=1)
    assert frames.shape[2] == WIDTH
    assert frames.std() > 10
    assert not (frames[0] == frames[-1]).all()
    assert clip.ending.endswith("after 0.6 s")
    assert Image.open(io.BytesIO(clip.strip)).width > 1000


@pytest.mark.slow
def test_without_opengl_there_is_one_sentence(shot, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(NoPictures, match="rendering needs OpenGL, which could not be started here"):
        film([shot])


def _untrained_run(folder, env):
    from geoflow.experiments.collection import collect
    from geoflow.experiments.config import CollectConfig, Config, TrainConfig
    from geoflow.experiments.training import train
    from geoflow.policies.config import PolicyConfig

    demos = folder / "demos.h5"
    whole = EnvConfig(env.id, {key: value for key, value in env.kwargs.items() if key != "max_episode_steps"})
    collect(whole, CollectConfig(episodes=1, workers=1), demos)
    settings = TrainConfig(demos=str(demos), steps=2, batch_size=4)
    return train(
        Config(env=whole, policy=PolicyConfig(width=16, depth=1), train=settings),
        folder / "run",
        device="cpu",
    )


# Stages.


def test_a_stage_that_is_interrupted_adds_up(tmp_path):
    path = tmp_path / "stages.json"
    with pytest.raises(KeyboardInterrupt), Stages(path).measure("work"):
        raise KeyboardInterrupt
    stages = Stages(path)
    assert not stages.finished("work")
    before = next(iter(stages)).seconds
    with stages.measure("work") as stage:
        ballast = np.ones(30_000_000)  # 240 MB
        stage.speed = f"{ballast[:3].sum():.0f} things/s"
    (kept,) = Stages(path)
    assert kept.finished
    assert kept.seconds > before > 0
    assert kept.speed == "3 things/s"
    assert kept.peak_mb > 240
