"""The whole sampler, from observation and noise to a chunk, as one ONNX graph or one torch.export program."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow.lie import so3
from geoflow.policies.base import Policy
from geoflow.policies.frames import split
from geoflow.policies.int8 import shrink
from geoflow.policies.sampler import ChunkSampler

FORMATS = {".onnx": "ONNX", ".pt2": "torch.export"}
WEIGHTS = ("float32", "int8")
TOLERANCE = 1e-3
"""Largest difference of a number of a chunk [m, quaternion, extras] between the graph and the policy."""
MEDIAN, WORST = {"m": 1e-3, "rad": 5e-3}, {"m": 5e-3, "rad": 5e-2}
"""How far 8-bit weights may move the pose of a chunk that moves most, over real observations: what a position
controlled arm does not notice, and what a closed loop mends with the next chunk."""


def export(
    policy: Policy,
    path: Path,
    nfe: int | None = None,
    weights: str = "float32",
    observations: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Write the sampler to ``path``, and compare what it gives with the policy.

    Args:
        policy: A trained flow policy that is told no text; it stays as it is. Colours go in as bytes.
        path: ``.onnx``, for onnxruntime, or ``.pt2``, for torch.export.load.
        nfe: Network evaluations a chunk, fixed in the graph; the policy's own by default.
        weights: "float32", which gives the policy's chunks to rounding; or "int8", for .onnx alone, which is read in
            a quarter of the time and moves chunks.
        observations: name -> (n, To, ...), real ones, over which is measured how far int8 weights move chunks.

    Returns:
        What a caller needs to know: names and shapes of inputs, rates, and the largest difference found. An ONNX
        file carries it too, as the metadata entry "geoflow".

    Raises:
        ValueError: another suffix or other weights; int8 weights without observations or in a .pt2; a policy that
            cannot be exported, or observations that it does not take.
        ArithmeticError: the graph gives other chunks than the policy, or int8 weights move them by more than `MEDIAN`
            or `WORST`; no file is left.
        ImportError: the extra "export" is not installed.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: expected a file name that ends in {' or '.join(FORMATS)}.")
    if weights not in WEIGHTS:
        raise ValueError(f"weights={weights!r}; expected one of {', '.join(WEIGHTS)}.")
    if weights == "int8" and (path.suffix != ".onnx" or observations is None):
        raise ValueError(
            "int8 weights are for .onnx files, and move chunks: give observations (geoflow export --demos FILE) over "
            "which to measure how far."
        )
    sampler = ChunkSampler(deepcopy(policy).cpu(), nfe).eval().requires_grad_(False)
    seen = None if observations is None else sampler.policy.batched(observations)[0]
    inputs, names = sampler.example(), ["noise", *sampler.names]
    facts = {
        "inputs": {name: list(x.shape) for name, x in zip(names, inputs, strict=True)},
        "poses": [name for name, kind in policy.spec.kinds.items() if kind == "pose"],
        "output": [1, policy.config.horizon, policy.spec.action_dim],
        "nfe": sampler.nfe,
        "weights": weights,
        "execute": policy.config.execute,
        "control_hz": policy.spec.control_hz,
        "env_id": policy.spec.env_id,
        "env_kwargs": dict(policy.spec.tasks[0].env_kwargs) if policy.spec.tasks else {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder, torch.no_grad():
        draft = Path(folder) / path.name
        run = _onnx(sampler, draft, names, inputs) if path.suffix == ".onnx" else _pt2(sampler, draft, inputs)
        facts["largest_difference"] = difference = _compare(sampler, run)
        if not difference <= TOLERANCE:
            raise ArithmeticError(
                f"the exported graph differs from the policy by {difference:.2g} (allowed {TOLERANCE:g}); not kept."
            )
        if weights == "int8" and seen is not None:
            if not shrink(draft, sampler.outputs):
                raise ValueError(
                    f"a {policy.config.backbone} has no product for 8 bits; use weights='float32'."
                )
            run = _session(draft, names)
            facts["moved"] = moved = _moved(sampler, run, seen)
            if not all(moved[f"median_{u}"] <= MEDIAN[u] and moved[f"worst_{u}"] <= WORST[u] for u in MEDIAN):
                raise ArithmeticError(
                    f"int8 weights move chunks by {moved}; allowed {MEDIAN}, {WORST}; not kept."
                )
        if path.suffix == ".onnx":
            _describe(draft, facts)
        draft.replace(path)
    return facts


def _onnx(sampler: ChunkSampler, path: Path, names: list[str], inputs: tuple[Tensor, ...]) -> Any:
    chatter = logging.getLogger("onnxscript")
    level = chatter.level
    chatter.setLevel(logging.ERROR)  # it warns of every operation that it does not fold into a constant
    try:
        program = torch.onnx.export(
            sampler,
            inputs,
            input_names=names,
            output_names=["chunk"],
            dynamo=True,
            verbose=False,
            opset_version=20,
        )
    finally:
        chatter.setLevel(level)
    assert program is not None
    path.write_bytes(program.model_proto.SerializeToString())
    return _session(path, names)


def _describe(path: Path, facts: Mapping[str, Any]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"geoflow": json.dumps(facts)})
    path.write_bytes(model.SerializeToString())


def _session(path: Path, names: list[str]) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: tuple[Tensor, ...]) -> Tensor:
        feeds = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return torch.from_numpy(np.asarray(session.run(None, feeds)[0]))

    return run


def _pt2(sampler: ChunkSampler, path: Path, inputs: tuple[Tensor, ...]) -> Any:
    program = torch.export.export(sampler, inputs)
    torch.export.save(program, str(path))
    module = program.module()
    return lambda inputs: module(*inputs)


def _compare(sampler: ChunkSampler, run: Any, draws: int = 8) -> float:
    """The largest difference of any number of ``draws`` chunks."""
    examples = [sampler.example(seed=seed + 1) for seed in range(draws)]
    return max(float((run(inputs) - sampler(*inputs)).abs().max()) for inputs in examples)


def _moved(sampler: ChunkSampler, run: Any, observations: Mapping[str, Tensor]) -> dict[str, float]:
    """How far the pose that moves most is from the policy's [m, rad], median and worst of chunks."""
    count = len(observations[sampler.names[0]])
    noise = sampler.noise(count, torch.Generator().manual_seed(0))
    inputs = (noise, *(observations[name] for name in sampler.names))
    exact = sampler(*inputs)
    found = torch.cat([run(tuple(x[i : i + 1] for x in inputs)) for i in range(count)])
    arms = sampler.policy.arms
    x, y = (split(chunk, arms)[0] for chunk in (exact, found))
    way = (x[..., :3] - y[..., :3]).norm(dim=-1).flatten(1).amax(1)
    turn = so3.minus(y[..., 3:], x[..., 3:]).norm(dim=-1).flatten(1).amax(1)
    return {
        "observations": count,
        "median_m": float(way.median()),
        "worst_m": float(way.max()),
        "median_rad": float(turn.median()),
        "worst_rad": float(turn.max()),
    }
