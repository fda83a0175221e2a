"""The demo, small: the whole line from nothing to the report, through a kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from geoflow.experiments.config import ConfigError
from geoflow.experiments.demo import FILM, configs_folder, demo

SMALL = {
    "collect.episodes": 3,
    "collect.workers": 1,
    "train.steps": 40,
    "train.batch_size": 32,
    "train.log_every": 10,
    "train.checkpoint_every": 10,
    "policy.width": 32,
    "policy.depth": 1,
    "evaluate.episodes": 2,
    "evaluate.nfe": [1],
    "evaluate.workers": 1,
}
CHILD = """
import json, sys
from geoflow.experiments.demo import demo
if __name__ == "__main__":
    demo(sys.argv[1], device="cpu", overrides=json.loads(sys.argv[2]), videos=False)
"""


def finished(out):
    path = out / "stages.json"
    return (
        [stage["name"] for stage in json.loads(path.read_text()) if stage["finished"]]
        if path.exists()
        else []
    )


@pytest.mark.slow
def test_a_killed_demo_continues_to_the_report(tmp_path):
    """What was finished before the kill is not made again; a second call makes nothing."""
    out = tmp_path / "demo"
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out), json.dumps(SMALL)], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 180
    while len(finished(out)) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs(children, timeout=30)[1]
    kept = [out / "demonstrations.h5", out / "se3_flow" / "model.safetensors"]
    before = [path.read_bytes() for path in kept]

    report = demo(out, device="cpu", overrides=SMALL, videos=False)

    assert report == out / "report.html"
    assert [path.read_bytes() for path in kept] == before
    names = finished(out)
    assert len(names) == 8
    assert names[-1] == FILM
    text = report.read_text()
    assert all(name in text for name in names)
    assert "attempts succeeded" in text
    records = json.loads((out / "comparison.json").read_text())
    assert {record["policy"] for record in records} == {"SE(3) flow", "Euclidean flow", "DDPM"}
    assert {record["episodes"] for record in records} == {2}

    made = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert demo(out, device="cpu", overrides=SMALL | {"evaluate.workers": 2}, videos=False) == report
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == made

    with pytest.raises(ConfigError, match=r"train.steps: 40 there, 41 now.*another --out"):
        demo(out, device="cpu", overrides=SMALL | {"train.steps": 41}, videos=False)


def test_the_settings_are_those_of_the_checkout():
    assert configs_folder() == Path(__file__).parents[2] / "configs"
