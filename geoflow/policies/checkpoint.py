"""A checkpoint is a folder of readable files: config.json, model.safetensors, README.md. Nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from geoflow.policies.base import Policy
from geoflow.policies.config import PolicyConfig
from geoflow.policies.ddpm import DDPMPolicy
from geoflow.policies.diffusion_policy import DiffusionPolicy
from geoflow.policies.flow import FlowPolicy
from geoflow.policies.foreign import import_class
from geoflow.policies.regression import RegressionPolicy
from geoflow.policies.spec import PolicySpec

POLICIES: dict[str, type[Policy]] = {
    "flow": FlowPolicy,
    "ddpm": DDPMPolicy,
    "diffusion_policy": DiffusionPolicy,
    "regression": RegressionPolicy,
}


class CheckpointError(ValueError):
    """A folder that cannot be read as a policy; the message says why."""


def policy_class(name: str) -> type[Policy]:
    """The class of a policy type: flow, ddpm, diffusion_policy, regression, or module:Class, a subclass of `Policy`.

    Raises:
        ValueError: there is none; the message says what would work.
    """
    return POLICIES.get(name) or import_class("policy.type", name, Policy, POLICIES)


def build_policy(config: PolicyConfig, spec: PolicySpec) -> Policy:
    """An untrained policy.

    Raises:
        ValueError: an unknown type, manifold, backbone, prior or frame; the message lists the known ones.
    """
    return policy_class(config.type)(config, spec)


def load_policy(folder: Path | str, device: str | torch.device = "cpu") -> Policy:
    """The trained policy of a run folder or of a Hugging Face Hub repository, ready to act.

    Raises:
        CheckpointError: a file is missing, broken, or of another policy.
    """
    path = Path(folder)
    if not path.is_dir():
        path = _from_hub(str(folder))
    config = _read_json(path / "config.json")
    weights = path / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(
            f"{weights} is missing; was the training of {path} finished? `geoflow train` resumes it."
        )
    try:
        values = config["config"]["policy"]
        unknown = [f"policy.{name}" for name in values if name not in PolicyConfig.__dataclass_fields__]
        if unknown:
            raise CheckpointError(
                f"{path / 'config.json'} is of another version of geoflow; this one has no {', '.join(unknown)}."
            )
        policy = build_policy(PolicyConfig(**values), PolicySpec.from_dict(config["spec"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path / 'config.json'} does not describe a geoflow policy of this version ({error})."
        ) from error
    try:
        policy.load_state_dict(_as_named_now(load_file(weights), policy))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{weights} does not fit the policy of its config.json ({reason}).") from error
    return policy.to(device).eval()


def _as_named_now(weights: dict[str, Tensor], policy: Policy) -> dict[str, Tensor]:
    """What encodes observations was a part of the policy itself before `Conditioning`."""
    moved = {name for name in weights if name.startswith(("encoder.", "senses.", "estimator."))}
    moved -= policy.state_dict().keys()
    return {f"conditioning.{name}" if name in moved else name: x for name, x in weights.items()}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        inside = sorted(str(weights.parent) for weights in path.parent.glob("*/model.safetensors"))
        raise CheckpointError(
            f"{path} is missing; a policy is a folder with config.json and model.safetensors"
            f"{', such as ' + ', '.join(inside[:3]) if inside else ''}."
        )
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}).") from error
    return content


def _from_hub(name: str) -> Path:
    """A repository id owner/name, downloaded (or from the local cache) by huggingface_hub."""
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise CheckpointError(
            f"{name} is no folder; give a run folder such as runs/peg_se3, or a Hub id owner/name."
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(f"{name} is no folder; for Hub ids: pip install 'geoflow[train]'.") from error
    try:
        files = ["config.json", "model.safetensors", "README.md"]
        return Path(snapshot_download(name, allow_patterns=files))
    except Exception as error:  # the hub's client raises a dozen types: offline, unknown, private, ...
        raise CheckpointError(f"{name} is no folder here, and the Hub did not give it ({error}).") from error
