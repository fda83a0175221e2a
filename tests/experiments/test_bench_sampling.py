"""geoflow bench sample: every cell timed, the baseline beside it, and precision against float64."""

import json

import pytest

from geoflow.experiments.bench_sampling import SPEC, _diffusion, bench_sample
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig


def test_cells_baseline_and_precision(tmp_path):
    out = bench_sample(tmp_path / "sample.json", nfe=(1, 2), batches=(1, 3), ways=("eager",), repeats=1)
    found = json.loads(out.read_text())
    cells = {(r["way"], r["nfe"], r["batch"]) for r in found["records"]}
    assert cells == {
        (w, n, b) for w, n in (("eager", 1), ("eager", 2), ("ddpm", 100), ("ddim", 10)) for b in (1, 3)
    }
    assert all(0 < r["min_ms"] <= r["median_ms"] for r in found["records"])
    assert found["precision"]["float32"]["largest"] < 1e-4 < found["precision"]["bfloat16 network"]["largest"]
    assert found["floor"]["weights_mb"] > 9


@pytest.mark.parametrize(
    ("way", "says"), [("fast", "it is one of eager, compiled"), ("graphed", "CUDA graphs need a GPU")]
)
def test_what_cannot_be_timed(tmp_path, way, says):
    with pytest.raises(ValueError, match=says):
        bench_sample(tmp_path / "sample.json", ways=(way,), device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"target": "velocity"}, {"method": "MeanFlow()", "solver": "jump"}])
def test_every_flow_has_a_diffusion_of_the_same_network_beside_it(options):
    policy = build_policy(PolicyConfig(width=16, depth=1, **options), SPEC)
    beside = _diffusion(policy)
    assert type(beside.net) is type(policy.net)
    assert beside.config.target == "endpoint"
