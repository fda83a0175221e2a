"""Real-time execution measured: what is played, and a picture of whatever was."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import matplotlib as mpl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from real_time import cells, draw


@pytest.mark.parametrize("manners", [["given", "naive"], ["guided", "given", "joined"], ["given"]])
def test_every_policy_also_waits_once(manners):
    """What success is said to fall from: of each policy that moves meanwhile, one cell without delay."""
    a = Namespace(disturbances=[0.0, 0.2], methods=["se3_flow"], delays=[0, 2], manners=manners)
    found = [(cell.told, cell.disturbance, cell.delay) for cell in cells(a)]
    moving = {(told, share) for told, share, delay in found if delay}
    assert len(moving) == 2 * len({manner == "given" for manner in manners})
    assert all(found.count((told, share, 0)) == 1 for told, share in moving)


def test_chunks_without_borders_are_drawn(tmp_path):
    """A chunk that lasts for an episode has none."""
    row = {"method": "se3_flow", "told": False, "disturbance": 0.0, "manner": "naive"}
    row |= {"success_rate": 0.5, "ci_low": 0.4, "ci_high": 0.6, "jumps": {}}
    with mpl.rc_context():
        draw([row | {"delay": 2}, row | {"delay": 0, "manner": "waiting"}], tmp_path / "found.png")
    assert (tmp_path / "found.png").stat().st_size > 10_000
