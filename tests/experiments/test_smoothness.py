"""Jumps between commands: a steady motion has none, and one that is put in is found where it is."""

import numpy as np
import torch

from geoflow.experiments.smoothness import MEASURES, Jumps
from geoflow.lie import se3


def screw(n=20):
    """A steady screw: 10 mm along and 3 degrees about z of the hand, at every tick."""
    xi = torch.tensor([0, 0, 0.01, 0, 0, np.deg2rad(3)], dtype=torch.float64)
    start = se3.exp(torch.tensor([0.3, 0.1, 0.2, 0.5, -0.4, 0.1], dtype=torch.float64))
    poses = se3.compose(start, se3.exp(torch.arange(n, dtype=torch.float64)[:, None] * xi))
    return np.concatenate([poses.numpy(), np.ones((n, 1))], 1)


def test_a_steady_motion_has_steps_but_no_changes():
    taken = np.arange(20) % 8 == 0
    taken[0] = False
    jumps = Jumps.of(screw(), taken)
    assert len(jumps.border) == 2
    assert len(jumps.inside) == 18 - 2 * 2
    for rows in (jumps.border, jumps.inside):
        np.testing.assert_allclose(rows, np.tile([10, 3, 0, 0], (len(rows), 1)), atol=1e-4)


def test_a_jump_is_found_at_its_border_alone():
    """5 mm and 2 degrees put in where a chunk takes over at tick 8."""
    commands, taken = screw(), np.arange(20) == 8
    shift = se3.exp(torch.tensor([0.005, 0, 0, np.deg2rad(2), 0, 0], dtype=torch.float64))
    commands[8:, :7] = se3.compose(torch.from_numpy(commands[8:, :7]), shift.expand(12, 7)).numpy()
    jumps = Jumps.of(commands, taken)
    change = dict(zip(MEASURES, jumps.border[0], strict=True))
    assert len(jumps.border) == 1
    assert abs(change["change_mm"] - 5) < 1e-3
    assert abs(change["change_deg"] - 2) < 1e-3
    # After the shift the hand points elsewhere: steady again, about another axis.
    assert jumps.inside[:, 2:].max() < 0.5


def test_episodes_are_put_together():
    jumps = Jumps.of(screw(), np.arange(20) == 8)
    both = Jumps.together([jumps, jumps, Jumps.of(screw(2), np.zeros(2, bool))])
    summary = both.summary()
    assert (summary["border"]["count"], summary["inside"]["count"]) == (2, 2 * len(jumps.inside))
    assert abs(summary["inside"]["p95"]["step_mm"] - 10) < 1e-3
    assert Jumps.of(screw(2), np.zeros(2, bool)).summary() == {}
