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
from torch import Tensor, nn

from geoflow.flows import INTEGRATORS, FlowMap, WrappedGaussian
from geoflow.lie import se3
from geoflow.policies.base import Policy
from geoflow.policies.flow import FlowPolicy

FORMATS = {".onnx": "ONNX", ".pt2": "torch.export"}
TOLERANCE = 1e-3
"""Largest difference of a number of a chunk [m, quaternion, extras] between the graph and the policy."""


class ChunkSampler(nn.Module):
    """(noise (B, T, tangent_dim), observations in the order of ``names``) -> chunks (B, T, 7 + k), world frame.

    The noise is standard normal; whoever calls draws it, so that the graph holds no random numbers.

    Args:
        policy: A trained flow policy.
        nfe: Network evaluations a chunk; the policy's own by default.

    Raises:
        ValueError: a policy that is no flow from a Gaussian prior, or an nfe that its solver cannot take.
    """

    def __init__(self, policy: Policy, nfe: int | None = None) -> None:
        super().__init__()
        if not isinstance(policy, FlowPolicy) or type(policy.flow.prior) is not WrappedGaussian:
            raise ValueError(
                "only flow policies whose prior is gaussian can be exported: their noise is one input. "
                f"This is a {type(policy).__name__} with prior {policy.config.prior!r}."
            )
        self.policy, self.names = policy, list(policy.spec.kinds)
        self.nfe = policy.config.nfe if nfe is None else nfe
        name = (
            policy.config.solver if policy.config.solver != "auto" else policy.default_solver(policy.config)
        )
        self.method = INTEGRATORS.get(name)  # None: a flow map's jumps
        each = self.method.evaluations if self.method else 1
        if self.nfe < 1 or self.nfe % each:
            raise ValueError(
                f"nfe={self.nfe}; {name} takes a multiple of {each} evaluations, at least {each}."
            )
        self.steps = policy.grid(self.nfe // each)

    def forward(self, noise: Tensor, *observations: Tensor) -> Tensor:
        """Sample."""
        policy, flow = self.policy, self.policy.flow
        obs = dict(zip(self.names, observations, strict=True))
        cond = policy.condition(obs)
        prior = flow.prior
        assert isinstance(prior, WrappedGaussian)
        x_0 = policy.space.exp(
            prior.mean.expand(*noise.shape[:-1], policy.space.point_dim), prior.scale * noise
        )
        how: dict[str, Any] = {"steps": self.steps, "x_0": x_0}
        if not isinstance(flow, FlowMap) or self.method is not None:
            how["method"] = self.method
        return policy.from_space(obs, flow.sample(policy.evaluate_network, cond, **how))

    def example(self, batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, as the graph takes them."""
        generator = torch.Generator().manual_seed(seed)
        policy, spec = self.policy, self.policy.spec
        T, To = policy.config.horizon, policy.config.observation_steps
        inputs = [torch.randn(batch, T, policy.space.tangent_dim, generator=generator)]
        for name, kind in spec.kinds.items():
            x = 0.3 * torch.randn(batch, To, *spec.shapes[name], generator=generator)
            inputs.append(se3.exp(x[..., :6]) if kind == "pose" else x)
        return tuple(inputs)


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
    sampler = ChunkSampler(policy.cpu().eval(), nfe).requires_grad_(False)
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
