"""A policy's choices against its demonstrations, its class and the policy it begins from: errors that say what fits."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from geoflow.policies.backbones import BACKBONES, InvariantTransformer
from geoflow.policies.config import PolicyConfig
from geoflow.policies.encoders import ENCODERS
from geoflow.policies.foreign import hint
from geoflow.policies.frames import Frames
from geoflow.policies.spec import PolicySpec


def check_loaded(policy: object, taker: str) -> None:
    """Raise TypeError for the path of a policy in place of a policy."""
    if isinstance(policy, (str, Path)):
        raise TypeError(f"expected a policy; load it: {taker}(load_policy({str(policy)!r})).")


def checked_frames(config: PolicyConfig, spec: PolicySpec) -> Frames:
    """The frames of a chunk.

    Raises:
        ValueError: a backbone, frame, observation or optional one that does not fit the spec.
    """
    if config.backbone not in BACKBONES:
        raise ValueError(f"policy.backbone={config.backbone!r}; it is one of {', '.join(BACKBONES)}.")
    poses = [name for name, kind in spec.kinds.items() if kind == "pose"]
    frames = Frames.of(config.frame, poses, spec.arms)
    if issubclass(BACKBONES[config.backbone], InvariantTransformer):
        _check_invariant(config, spec, frames)
    for name, kind in spec.kinds.items():
        if kind != "pose" and kind not in ENCODERS:
            raise ValueError(
                f"observation {name!r} is of the kind {kind!r}; a policy takes pose, {', '.join(ENCODERS)}."
            )
    for name in spec.partial:
        if name in frames.names:
            raise ValueError(
                f"policy.frame={config.frame!r} ({name}) is not observed in all the tasks; name a pose that is, or "
                "world."
            )
        if spec.kinds[name] in ("points", "embedding") and name not in config.optional:
            raise ValueError(
                f"observation {name!r} is not in all the demonstration files; name it in policy.optional, or leave it "
                "out with policy.observations."
            )
    for name in config.optional:
        if name not in spec.kinds or name in poses:
            allowed = [other for other in spec.kinds if other not in poses]
            raise ValueError(
                f"policy.optional names {name!r}; what may be missing is {', '.join(allowed) or 'none here'}, no pose."
            )
    return frames


def _check_invariant(config: PolicyConfig, spec: PolicySpec, frames: Frames) -> None:
    """Raise ValueError for chunks that an invariant network does not give: of several arms, or fixed in the world.

    What it predicts does not change when the whole scene is moved. That is right of body velocities, and of all that
    is seen in a frame which moves with the scene; but not of end points, which are tangents at a fixed centre.
    """
    if spec.arms > 1:
        raise ValueError(
            f"policy.backbone={config.backbone!r} attends from the poses of one arm; these actions have {spec.arms}. "
            "Use transformer, expert, a U-Net or mlp."
        )
    clouds = [name for name, kind in spec.kinds.items() if kind == "points"]
    if frames.in_world and (config.target != "velocity" or config.manifold != "SE3" or clouds):
        seen = f", and sees the cloud {clouds[0]!r} there" if clouds else ""
        raise ValueError(
            f"policy.backbone={config.backbone!r} with policy.frame='world' predicts the same wherever the scene is, "
            "which suits policy.target=velocity on policy.manifold=SE3, without point clouds; this policy has the "
            f"target {config.target!r} on {config.manifold!r}{seen}. Name a pose that moves with the scene as "
            "policy.frame, such as tcp."
        )


def check_takes(method: Callable[..., Any], *names: str) -> None:
    """Raise ValueError where a method of a policy class, somebody else's perhaps, cannot be called with these names."""
    parameters = signature(method).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return
    missing = [name for name in names if name not in signature(method).parameters]
    if missing:
        raise ValueError(
            f"{method.__qualname__} does not take {' and '.join(missing)}, which this use of the policy needs; add it, "
            "as in the policies of geoflow.policies, or do without."
        )


def check_estimated(config: PolicyConfig, spec: PolicySpec) -> None:
    """Raise ValueError where what is to be estimated is no pose of the demonstrations."""
    poses = [name for name, kind in spec.kinds.items() if kind == "pose" and name not in spec.partial]
    for name in config.estimated:
        if name not in poses:
            raise ValueError(
                f"policy.estimated names {name!r}; poses in all of the demonstrations are {', '.join(poses)}."
                f"{hint(name, poses)}"
            )


def check_same(config: PolicyConfig, spec: PolicySpec, before: PolicyConfig, seen: PolicySpec) -> None:
    """Raise ValueError where the numbers of a policy to begin from (``before``, ``seen``) mean something else.

    Another task may be learned from there, from the same observations.
    """
    for option in ("type", "manifold", "frame", "target"):
        own, other = getattr(config, option), getattr(before, option)
        if own != other:
            raise ValueError(
                f"policy.{option}={own!r}, and the policy to begin from has {other!r}: its weights mean something else."
            )
    for what, own, other in (
        ("sees", _listed(spec), _listed(seen)),
        ("has actions a second:", spec.control_hz, seen.control_hz),
        ("has arms:", spec.arms, seen.arms),
    ):
        if own != other:
            raise ValueError(
                f"this policy {what} {own}; the one to begin from {what} {other}, so its weights mean something else."
            )


def _listed(spec: PolicySpec) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in spec.kinds.items())
