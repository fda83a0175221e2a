"""Chunks: which windows of disturbed demonstrations there are, and which of their actions count."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoflow.data.chunks import Chunks
from geoflow.data.demonstrations import DemonstrationError, Meta, write
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.spec import PolicySpec
from tests import walks

DISTURBED = {0: (5, 6, 15), 1: (), 2: (walks.STEPS - 1,)}


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("disturbed") / "walk.h5"
    meta = Meta(env_id="tests/Walk-v0", env_kwargs={}, control_hz=20.0, observation_kinds=walks.KINDS)
    steps = np.arange(walks.STEPS)
    write(
        path,
        meta,
        (replace(walks.episode(i), disturbed=np.isin(steps, where)) for i, where in DISTURBED.items()),
    )
    return path


def counted(start, horizon, where):
    """By the definition: steps of the window that no disturbed step comes before."""
    return [not any(start <= bad < start + k for bad in where) for k in range(horizon)]


@pytest.mark.parametrize("horizon", [1, 4, 16, 50])
def test_counted_actions_are_those_before_anything_was_disturbed(disturbed, horizon):
    """Up to and with the first disturbed step: what is recorded there is still the expert's."""
    chunks = Chunks(disturbed, horizon, windows="begun")
    assert len(chunks) == len(DISTURBED) * walks.STEPS
    counts = chunks.batch(np.arange(len(chunks))).counts
    expected = [counted(s, horizon, where) for where in DISTURBED.values() for s in range(walks.STEPS)]
    assert counts.tolist() == expected


@pytest.mark.parametrize("horizon", [1, 4, 16, 50])
def test_whole_windows_are_the_undisturbed_ones(disturbed, horizon):
    chunks = Chunks(disturbed, horizon)
    expected = [
        i * walks.STEPS + start
        for i, where in DISTURBED.items()
        for start in range(walks.STEPS)
        if not any(start <= bad < start + horizon for bad in where)
    ]
    everything = Chunks(disturbed, horizon, windows="begun")
    batch = chunks.batch(np.arange(len(chunks)))
    assert batch.counts is None
    assert torch.equal(batch.actions, everything.batch(np.array(expected)).actions)


def test_begun_windows_of_undisturbed_demonstrations_are_whole(tmp_path):
    path = walks.write_walks(tmp_path / "walk.h5", range(3))
    begun, whole = (Chunks(path, 8, windows=windows) for windows in ("begun", "whole"))
    assert len(begun) == len(whole)
    assert begun.batch(np.arange(len(begun))).counts.all()


@pytest.mark.parametrize("type_", ["flow", "ddpm", "regression"])
def test_what_does_not_count_teaches_nothing(disturbed, type_):
    """No loss where no action counts; what counts and the rest add up to the whole."""
    config = PolicyConfig(type=type_, width=16, depth=1, horizon=8, execute=4)
    chunks = Chunks(disturbed, 8, windows="begun")
    torch.manual_seed(0)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    batch = chunks.batch(np.arange(len(chunks)))
    none = replace(batch, counts=torch.zeros_like(batch.counts))
    assert policy(none, torch.Generator().manual_seed(0)).abs().max() == 0
    full = policy(replace(batch, counts=torch.ones_like(batch.counts)), torch.Generator().manual_seed(0))
    torch.testing.assert_close(full, policy(replace(batch, counts=None), torch.Generator().manual_seed(0)))
    some = policy(batch, torch.Generator().manual_seed(0))
    rest = policy(replace(batch, counts=~batch.counts), torch.Generator().manual_seed(0))
    torch.testing.assert_close(some + rest, full)


def test_errors_say_what_would_work(disturbed, tmp_path):
    with pytest.raises(ValueError, match="windows='most'; expected one of whole, begun"):
        Chunks(disturbed, 8, windows="most")
    meta = Meta(env_id="tests/Walk-v0", env_kwargs={}, control_hz=20.0, observation_kinds=walks.KINDS)
    every = replace(walks.episode(0), disturbed=np.ones(walks.STEPS, bool))
    write(tmp_path / "bad.h5", meta, [every])
    with pytest.raises(DemonstrationError, match=r"--train\.windows begun"):
        Chunks(tmp_path / "bad.h5", 8)
