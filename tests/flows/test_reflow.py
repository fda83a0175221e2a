"""Reflow: pairs of a flow with a known map, a file that keeps them, and the straight flow they teach."""

import pytest
import torch

import geoflow as gf
from geoflow.flows import Pairs, StepTimes, rkmk4
from tests.flows.test_flow import gaussian_velocity

MEAN, STD = 2.0, 0.3


def gaussian_pairs(n=500):
    flow = gf.Flow(gf.Euclidean(1)).double()
    generator = torch.Generator().manual_seed(0)
    return Pairs.draw(
        flow, gaussian_velocity(MEAN, STD), n, steps=200, method=rkmk4, batch=200, generator=generator
    )


def straight(x, t, cond):
    """The flow of lines from x_0 to m + s x_0: at x = (1 - t) x_0 + t x_1 its velocity is m + (s - 1) x_0."""
    x_0 = (x - t[:, None] * MEAN) / (1 + t[:, None] * (STD - 1))
    return MEAN + (STD - 1) * x_0


def rotations(n=64, cond=None):
    space = gf.SO3()
    target = space.random_uniform(1, generator=torch.Generator().manual_seed(1))

    def net(features, t, cond):
        x = space.from_features(features)
        return space.log(x, target.expand_as(x)) / (1 - t).reshape(-1, *(1,) * (x.dim() - 1))

    flow = gf.Flow(space, gf.HaarUniform(space))
    draw = {"horizon": 3, "generator": torch.Generator().manual_seed(2)}
    return Pairs.draw(flow, net, n, cond, **draw), target


def test_pairs_are_the_flow_s_own_map():
    """The flow between Gaussians N(0, 1) and N(m, s^2) carries x_0 to m + s x_0."""
    pairs = gaussian_pairs()
    assert len(pairs) == 500
    torch.testing.assert_close(pairs.x_1, MEAN + STD * pairs.x_0, rtol=0, atol=1e-6)


def test_pairs_end_where_the_flow_does_on_a_group():
    pairs, target = rotations()
    assert pairs.x_0.shape == (64, 3, 4)
    assert pairs.space.distance(pairs.x_1, target).max() < 1e-4
    assert pairs.space.distance(pairs.x_0, target).max() > 1


def test_the_straight_flow_has_no_loss_on_pairs_and_needs_one_step():
    """Independent noise leaves a conditional variance; the pairs of a deterministic map leave none."""
    pairs, flow = gaussian_pairs(), gf.Flow(gf.Euclidean(1)).double()
    batch = pairs.sample(400, torch.Generator().manual_seed(1))
    assert flow.loss(straight, batch.x_1, x_0=batch.x_0).max() < 1e-9
    assert flow.loss(straight, batch.x_1).mean() > 0.1
    once = flow.sample(straight, x_0=pairs.x_0, steps=1)
    torch.testing.assert_close(once, pairs.x_1, rtol=0, atol=1e-6)


def test_distillation_trains_only_where_its_steps_look():
    pairs = gaussian_pairs()
    net = lambda x, t, cond: torch.where(t[:, None] == 0, straight(x, t, cond), torch.nan)  # noqa: E731
    one = gf.Flow(gf.Euclidean(1), times=StepTimes(1)).double()
    assert one.loss(net, pairs.x_1, x_0=pairs.x_0).max() < 1e-9
    assert one.sample(net, x_0=pairs.x_0, steps=1).isfinite().all()
    t = StepTimes(4)(400, torch.Generator().manual_seed(0), pairs.x_0)
    values, counts = t.unique(return_counts=True)
    assert values.tolist() == [0, 0.25, 0.5, 0.75]
    assert counts.tolist() == [100] * 4


def test_a_batch_keeps_what_belongs_together():
    cond = torch.arange(64.0)[:, None]
    pairs, _ = rotations(cond=cond)
    batch = pairs.sample(40, torch.Generator().manual_seed(3))
    assert batch.cond is not None
    rows = batch.cond[:, 0].long()
    assert len(rows.unique()) > 20
    torch.testing.assert_close(batch.x_0, pairs.x_0[rows])
    torch.testing.assert_close(batch.x_1, pairs.x_1[rows])


@pytest.mark.parametrize("with_cond", [False, True])
def test_a_file_gives_back_what_was_saved(tmp_path, with_cond):
    pairs, _ = rotations(cond=torch.randn(64, 2) if with_cond else None)
    path = tmp_path / "pairs.safetensors"
    pairs.save(path)
    pairs.save(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    again = Pairs.load(path, gf.SO3())
    assert torch.equal(again.x_0, pairs.x_0)
    assert torch.equal(again.x_1, pairs.x_1)
    if pairs.cond is None or again.cond is None:
        assert again.cond is pairs.cond
    else:
        assert torch.equal(again.cond, pairs.cond)
    assert b'"space":"SO3()"' in path.read_bytes()


def test_files_of_other_things_are_refused(tmp_path):
    from safetensors.torch import save_file

    pairs, _ = rotations()
    path = tmp_path / "pairs.safetensors"
    pairs.save(path)
    with pytest.raises(ValueError, match=r"pairs of SO3\(\).*SE3"):
        Pairs.load(path, gf.SE3())
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"Pairs\.save"):
        Pairs.load(path, gf.SO3())
    path.write_text("not a tensor")
    with pytest.raises(ValueError, match="no safetensors file"):
        Pairs.load(path, gf.SO3())
    with pytest.raises(FileNotFoundError):
        Pairs.load(tmp_path / "none", gf.SO3())


def test_a_failed_save_leaves_nothing_behind(tmp_path):
    pairs, _ = rotations()
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        pairs.save(tmp_path / "taken")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_counts_that_differ_are_refused():
    x = torch.zeros(5, 2)
    with pytest.raises(ValueError, match="as many starts as ends"):
        Pairs(gf.Euclidean(2), x, x[:4])
    with pytest.raises(ValueError, match="3 conditions"):
        Pairs(gf.Euclidean(2), x, x, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="last axis 4"):
        Pairs(gf.SO3(), x, x)
    flow, net = gf.Flow(gf.Euclidean(1)), gaussian_velocity(0, 1)
    with pytest.raises(ValueError, match="one condition for each"):
        Pairs.draw(flow, net)
    with pytest.raises(ValueError, match="n=3 pairs with 2 conditions"):
        Pairs.draw(flow, net, 3, torch.zeros(2, 1))
    with pytest.raises(ValueError, match="steps=0"):
        StepTimes(0)
