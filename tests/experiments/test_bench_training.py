"""geoflow bench train: every cell timed, and compared with the Euclidean flow on the same network."""

import json

import pytest

from geoflow.experiments.bench_training import EUCLIDEAN, METHODS, TOOLBOX, bench_train


def test_cells_and_their_ratios(tmp_path, capsys):
    size = {"batch": 2, "width": 32, "depth": 1, "repeats": 1}
    backbones = ("mlp", "transformer")
    out = bench_train(tmp_path / "train.json", backbones, ("eager",), **size, toolbox=True)
    records = json.loads(out.read_text())["records"]
    cells = {(r["backbone"], r["way"], r["method"]) for r in records}
    everything = {(b, "eager", m) for b in backbones for m in (*METHODS, *TOOLBOX)}
    assert everything - cells == {("transformer", "eager", "conditional transport")}
    assert cells < everything
    flat = {r["backbone"]: r["step_ms"] for r in records if r["method"] == EUCLIDEAN}
    for r in records:
        assert r["ratio"] == pytest.approx(r["step_ms"] / flat[r["backbone"]])
        assert 0 < r["step_ms"] <= r["median_ms"]
        assert r["network_share"] > 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(records)


@pytest.mark.parametrize("wrong", [{"ways": ("fast",)}, {"repeats": 0}])
def test_what_cannot_be_timed(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"eager, compiled|at least 1"):
        bench_train(tmp_path / "train.json", **wrong)
    assert not list(tmp_path.iterdir())
