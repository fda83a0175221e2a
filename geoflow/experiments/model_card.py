"""The model card: README.md of a checkpoint folder, as the Hugging Face Hub reads it."""

from __future__ import annotations

from typing import Any


def model_card(name: str, description: dict[str, Any]) -> str:
    """Markdown with the Hub's front matter, from the content of a run's config.json."""
    config = description["config"]
    policy, settings, env = config["policy"], config["train"], config["env"]
    # As the demonstrations say; a run from before they did says what it was asked for.
    tasks = description["spec"].get("tasks") or [{"env_id": env["id"], "env_kwargs": env["kwargs"]}]
    made = " and ".join(f"`{task['env_id']}` ({_options(task['env_kwargs'])})" for task in tasks)
    return f"""---
library_name: geoflow
pipeline_tag: robotics
tags: [robotics, flow-matching, lie-groups, {policy["type"]}]
---

# {name}

A geoflow {policy["type"]} policy ({policy["manifold"]} geometry, chunks of {policy["horizon"]} poses in the
{policy["frame"]} frame) for {made}.

    import geoflow as gf
    policy = gf.load_policy("{name}")
    broker = gf.ChunkBroker(policy)
    action = broker.act(obs)

| | |
|---|---|
| parameters | {description["parameters"]:,} |
| optimiser steps | {settings["steps"]:,} of batch {settings["batch_size"]} |
| training time | {description["train_seconds"]:.0f} s |
| seed | {description["seed"]} |
| observations | {", ".join(f"{key} ({kind})" for key, kind in description["spec"]["kinds"].items())} |
| control rate | {description["spec"]["control_hz"]:g} Hz |

Poses are (x, y, z, qw, qx, qy, qz) in metres, world frame; the gripper command lies in [-1, 1], +1 closed.
"""


def _options(kwargs: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in kwargs.items()) or "defaults"
