"""The whole sampler, from observation and noise to a chunk, as one ONNX graph or one torch.export program."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow.policies.base import Policy
from geoflow.policies.sampler import ChunkSampler

FORMATS = {".onnx": "ONNX", ".pt2": "torch.export"}
TOLERANCE = 1e-3
"""Largest difference of a number of a chunk [m, quaternion, extras] between the graph and the policy."""


def export(policy: Policy, path: Path, nfe: int | None = None) -> dict[str, Any]:
    """Write the sampler to ``path``, and compare what it gives with the policy.

    Args:
        policy: A trained flow policy with pose and vector observations.
        path: ``.onnx``, for onnxruntime, or ``.pt2``, for torch.export.load.
        nfe: Network evaluations a chunk, fixed in the graph; the policy's own by default.

    Returns:
        What a caller needs to know: names and shapes of inputs, rates, and the largest difference found. An ONNX
        file carries it too, as the metadata entry "geoflow".

    Raises:
        ValueError: another suffix; a policy that cannot be exported.
        ArithmeticError: the graph gives other chunks than the policy; no file is left.
        ImportError: the extra "export" is not installed.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: expected a file name that ends in {' or '.join(FORMATS)}.")
    sampler = ChunkSampler(policy.cpu().eval(), nfe).eval().requires_grad_(False)
    inputs, names = sampler.example(), ["noise", *sampler.names]
    facts = {
        "inputs": {name: list(x.shape) for name, x in zip(names, inputs, strict=True)},
        "output": [1, policy.config.horizon, policy.spec.action_dim],
        "nfe": sampler.nfe,
        "execute": policy.config.execute,
        "control_hz": policy.spec.control_hz,
        "env_id": policy.spec.env_id,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder, torch.no_grad():
        draft = Path(folder) / path.name
        run = (
            _onnx(sampler, draft, names, inputs, facts)
            if path.suffix == ".onnx"
            else _pt2(sampler, draft, inputs)
        )
        facts["largest_difference"] = difference = _compare(sampler, run)
        if not difference <= TOLERANCE:
            raise ArithmeticError(
                f"the exported graph differs from the policy by {difference:.2g} (allowed {TOLERANCE:g}); not kept."
            )
        draft.replace(path)
    return facts


def _onnx(
    sampler: ChunkSampler, path: Path, names: list[str], inputs: tuple[Tensor, ...], facts: Mapping[str, Any]
) -> Any:
    import onnx
    import onnxruntime

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
    model = program.model_proto
    onnx.helper.set_model_props(model, {"geoflow": json.dumps(facts)})
    path.write_bytes(model.SerializeToString())
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
