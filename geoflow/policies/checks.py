"""A policy's choices against what its demonstrations have: errors that say what would fit."""

from __future__ import annotations

from geoflow.policies.backbones import BACKBONES, InvariantTransformer
from geoflow.policies.config import PolicyConfig
from geoflow.policies.encoders import ENCODERS
from geoflow.policies.frames import Frames
from geoflow.policies.spec import PolicySpec


def checked_frames(config: PolicyConfig, spec: PolicySpec) -> Frames:
    """The frames of a chunk.

    Raises:
        ValueError: a backbone, frame, observation or optional one that does not fit the spec.
    """
    if config.backbone not in BACKBONES:
        raise ValueError(f"policy.backbone={config.backbone!r}; it is one of {', '.join(BACKBONES)}.")
    poses = [name for name, kind in spec.kinds.items() if kind == "pose"]
    frames = Frames.of(config.frame, poses, spec.arms)
    if spec.arms > 1 and issubclass(BACKBONES[config.backbone], InvariantTransformer):
        raise ValueError(
            f"policy.backbone={config.backbone!r} attends from the poses of one arm; these actions have {spec.arms}. "
            "Use transformer, expert, a U-Net or mlp."
        )
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
