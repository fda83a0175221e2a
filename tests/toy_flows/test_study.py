"""Cells are kept and not computed twice; claims are arithmetic on them; pictures are drawn from what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy.claims import Table, claims, equal_error, one_step
from toy.pictures import grasps, look, sphere
from toy.sets import SETS
from toy.study import Cell, select
from toy.tables import markdown

from geoflow.lie import so3

ROOT = Path(__file__).parents[2]


def record(toy, method, w1, seeds=2, data=30000, **more):
    """A record whose W_1 halves from seed to seed."""
    nfe = {
        str(n): {"w1": v, "mmd2": 0.01, "coverage": 1.0, "variation": 0.1, "sample_ms": 2.0}
        for n, v in w1.items()
    }

    def scaled(s):
        return {n: {**v, "w1": v["w1"] / 2**s} for n, v in nfe.items()}

    runs = [{"nfe": scaled(s), **more} for s in range(seeds)]
    return {"toy": toy, "method": method, "data": data, "family": "", "train_s": 1.0, "seeds": runs}


FLOORS = {"peaks": {"w1": 0.1}}


def test_one_step_is_compared_seed_by_seed():
    table = Table(
        [record("peaks", "plain", {1: 1.0, 50: 0.4}), record("peaks", "reflow_1step", {1: 0.6})], FLOORS
    )
    found = one_step(table)["peaks"]["reflow_1step"]
    assert found["ratio"] == pytest.approx(1.5)
    assert found["ratio_seeds"] == pytest.approx([1.5, 1.5])
    assert found["excess"] == pytest.approx(0.45 - 0.1)


def test_evaluations_at_equal_error_lie_on_the_curve():
    """A power law W_1 = 1 / NFE is a line in logarithms: the same error at half the constant needs half the steps."""
    w1 = {n: 1 / n for n in (1, 2, 4, 10, 50)}
    half = {n: 0.5 / n for n in w1}
    table = Table([record("peaks", "vp", w1), record("peaks", "plain", half)], FLOORS)
    needed = equal_error(table)["peaks"]
    assert needed["vp at 4"]["plain"] == pytest.approx(2)
    assert needed["vp at 10"]["plain"] == pytest.approx(5)


def test_what_is_missing_is_left_out():
    table = Table([record("peaks", "plain", {50: 0.4})], FLOORS)
    assert "two steps of reflow against 50" not in claims(table, {})
    lines = markdown(table).splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_sources_come_first():
    cells = select(["peaks"], ["reflow_2step", "rkmk4"])
    assert [cell.method for cell in cells] == ["plain", "reflow", "reflow_2step", "rkmk4"]
    assert Cell("peaks", "plain", 300).name == "peaks-plain-300"


@pytest.mark.slow
def test_the_command_resumes_and_reports(tmp_path):
    """Two rows from end to end; the second call computes no cell, and its last line is the page."""
    command = [
        sys.executable,
        str(ROOT / "scripts" / "toy_flows.py"),
        "--sets",
        "moons",
        "--methods",
        "plain",
        "midpoint",
    ]
    command += [
        "--steps",
        "10",
        "--workers",
        "1",
        "--out",
        str(tmp_path),
        "--publish",
        str(tmp_path / "docs"),
    ]
    folder = tmp_path / "steps10-seeds1"
    times = []
    for _ in range(2):
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        times.append((folder / "cells" / "moons-plain.json").stat().st_mtime_ns)
    assert times[0] == times[1]
    page = Path(done.stdout.strip().splitlines()[-1])
    assert "two moons" in page.read_text()
    published = json.loads((tmp_path / "docs" / "results" / "toy_flows.json").read_text())
    assert published["cells"][0]["nfe"]["50"]["w1"][0] > 0


def test_the_spin_is_the_third_euler_angle():
    phi, theta, psi = torch.rand(3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    axes = torch.eye(3, dtype=torch.float64)
    q = so3.exp(phi[:, None] * axes[2])
    for angle, axis in ((theta, 1), (psi, 2)):
        q = so3.compose(q, so3.exp(angle[:, None] * axes[axis]))
    tool, spin = sphere.tool_axes(q)
    np.testing.assert_allclose(spin, psi / (2 * np.pi), atol=1e-9)
    np.testing.assert_allclose(tool[:, 2], theta.cos(), atol=1e-9)


def test_hues_close_the_circle_at_equal_brightness():
    colours = look.hue(np.linspace(0, 1, 61))
    np.testing.assert_allclose(colours[0], colours[-1], atol=1e-12)
    assert np.ptp(colours[:, :3] @ [0.2126, 0.7152, 0.0722]) < 0.25


def test_pictures_are_drawn(tmp_path):
    space = SETS["peaks"].space
    x = space.random_uniform(40, generator=torch.Generator().manual_seed(0))
    states = torch.stack([space.geodesic(x, x.roll(1, 0), k / 8)[0] for k in range(9)])
    paths = [sphere.flows_picture([("a", states, "axis"), ("b", states, "ball")], tmp_path / "a.png")]
    gif = sphere.animation(states, tmp_path / "a.gif", size=100, frames=4)
    poses = SETS["box"].sample(30, torch.Generator().manual_seed(0))[0]
    paths.append(grasps.grasps_picture([(SETS["box"], poses.expand(5, -1, -1))], tmp_path / "b.png"))
    for path in paths:
        assert path.stat().st_size < 300_000
        assert np.asarray(Image.open(path).convert("L")).std() > 5
    assert Image.open(gif).n_frames == 4
