"""docs/tasks.md from the tasks' datasheets and measured figures, and the picture of all tasks, from expert rollouts."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)

from __future__ import annotations

import argparse
import inspect
import json
import os
from collections.abc import Iterator
from io import BytesIO
from itertools import product
from math import degrees
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from geoflow_envs import TASKS  # before MuJoCo: it chooses OpenGL

import mujoco  # isort: skip

ROOT = Path(__file__).parents[1]
PAGE, PICTURE, RESULTS = ROOT / "docs/tasks.md", ROOT / "docs/images/tasks.jpg", ROOT / "docs/results"
OLD_NAMES = {"TiltedPegInsert": "expert_peg.json"}
"""Results that were written before their task's name was in the file's."""

INTRO = """# Tasks

Written by `python scripts/task_pages.py` from the datasheets in the code and from the figures in `docs/results`; a
test keeps it up to date. Every task is made by

```python
import gymnasium as gym

env = gym.make("geoflow_envs:geoflow/{name}-v0", level=1, robot="panda")
```

and watched by `geoflow view {name}`. Actions are absolute poses of the TCP in the world and a gripper command, at
20 Hz.

![Every task, at the start, on the way and done](images/{picture})

Three moments of one episode of each task's scripted expert.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", action="store_true", help="render the picture too; needs OpenGL")
    options = parser.parse_args()
    if options.pictures:
        write(PICTURE, gallery())
        print(f"{PICTURE} {PICTURE.stat().st_size / 1000:.0f} kB")
    write(PAGE, page().encode())
    print(PAGE)


# The page.


def page() -> str:
    """docs/tasks.md as it should be."""
    names = [short(task) for task in TASKS]
    tasks = [sheet(task) for task in TASKS]
    parts = [INTRO.format(name=names[0], picture=PICTURE.name)]
    parts += ["## Overview\n", overview(tasks), "## The expert's success\n", success(names)]
    parts += ["### Disturbed\n", disturbed(names), "## Adversarial actions\n", stressed()]
    parts += ["## What a step costs\n", cost(), "## Datasheets\n"]
    parts += [f"### {task['name']}\n\n`{task['id']}`\n\n{task['doc']}\n" for task in tasks]
    return "\n".join(parts)


def short(task: str) -> str:
    """The name without namespace and version."""
    return task.partition("/")[2].rpartition("-v")[0]


def sheet(task: str) -> dict[str, Any]:
    """What the page says of one task, read from its class and one instance."""
    env = gym.make(task, disable_env_checker=True)
    base: Any = env.unwrapped
    levels = [tuple(round(degrees(angle)) for angle in level.rotation) for level in base.levels]
    found = {
        "id": task,
        "name": short(task),
        "doc": inspect.getdoc(type(base)) or "",
        "robots": list(base.robots),
        "levels": levels,
        "steps": base.steps,
        "observations": list(base.observation_kinds),
        "failures": list(base.failures),
        "action": base.action_space.shape[0],
    }
    env.close()
    return found


def overview(tasks: list[dict[str, Any]]) -> str:
    """One row a task."""
    rows = []
    for task in tasks:
        name = task["name"]
        rows.append(
            [
                f"[{name}](#{name.lower()})",
                sentence(task["doc"]),
                ", ".join(task["robots"]),
                "; ".join(f"{low} to {high}" for low, high in task["levels"]),
                str(task["action"]),
                ", ".join(task["observations"]),
                str(task["steps"]),
                ", ".join(task["failures"]),
            ]
        )
    head = ["task", "what is to be done", "robots", "rotation at levels 0; 1; 2; 3 [degrees]"]
    head += ["action", "observations", "steps at most", "failures"]
    return table(head, rows)


def success(names: list[str]) -> str:
    """The expert's success, for each task that was measured."""
    note = (
        "Fresh seeds, from 100 000 on; 95 % Wilson intervals; modes: how often each right end was reached, of the "
        "successes. `python scripts/expert_success.py TASK` measures; each file in `docs/results` holds its command "
        "and versions.\n"
    )
    return note + "\n" + experts({name: measured(name) for name in names})


def disturbed(names: list[str]) -> str:
    """The same while what is executed is disturbed, as when demonstrations are collected."""
    path = RESULTS / "disturbed_experts.json"
    if not path.is_file():
        return "Not measured yet: `python scripts/expert_success.py TASK... --disturbance 0.2`.\n"
    content = json.loads(path.read_text())
    shares = sorted({f"{100 * record['disturbance']:.0f} %" for record in content["records"]})
    note = (
        f"Bursts of up to 3 cm and 20 degrees on {', '.join(shares)} of the steps, as in collected demonstrations; "
        f"by `python scripts/expert_success.py TASK... --disturbance 0.2` (file: `docs/results/{path.name}`). "
        "In WireLoop a push that throws the loop against the wire is the end, and no expert can mend it.\n"
    )
    found = {name: [r for r in content["records"] if r["task"] == name] for name in names}
    return note + "\n" + experts(found)


def experts(measurements: dict[str, list[dict[str, Any]]]) -> str:
    """Records of `scripts/expert_success.py`, by task."""
    rows = []
    for name, records in measurements.items():
        if not records:
            rows.append([name, *["not measured yet"], *[""] * 7])
        for record in records:
            reached, total = record.get("modes", {}), max(record["successes"], 1)
            modes = ", ".join(f"{mode}: {100 * n / total:.0f} %" for mode, n in reached.items())
            rows.append(
                [
                    name,
                    record["robot"],
                    str(record["level"]),
                    conditions(record),
                    f"{100 * record['successes'] / record['episodes']:.1f} % of {record['episodes']}",
                    f"{100 * record['ci_low']:.1f} to {100 * record['ci_high']:.1f}",
                    modes,
                    ", ".join(f"{kind} {n}" for kind, n in record["failures"].items()),
                    f"{record['steps_median']:.0f}",
                ]
            )
    head = ["task", "robot", "level", "scenes", "success", "95 %", "modes", "failures", "steps (median)"]
    return table(head, rows)


def stressed() -> str:
    """The table of `scripts/stress.py`."""
    path = RESULTS / "stress.json"
    if not path.is_file():
        return "Not measured yet: `python scripts/stress.py`.\n"
    content = json.loads(path.read_text())
    limits = {key: f"{value:g}" for key, value in content["limits"].items()}
    note = (
        f"`{content['command']}`: {', '.join(content['attacks'])}, against each task and robot, a quarter of the "
        "actions at each level. An action that is none is refused with every bit of the state as it was; after any "
        "other the state and the observation are valid, and an episode that ends says why.\n"
    )
    head = ["task", "robot", "actions", "refused", "episodes", f"largest speed [m/s] (< {limits['speed']})"]
    head += [
        f"kinetic energy [J] (< {limits['energy']})",
        f"joint beyond its range [rad] (< {limits['hinge_excess']})",
    ]
    head += [f"finger beyond its range [mm] (< {1000 * content['limits']['slide_excess']:g})"]
    head += [f"penetration [mm] (< {1000 * content['limits']['penetration']:g})", "ends"]
    rows = []
    for record in content["records"]:
        most = record["most"]
        ends = ", ".join(f"{kind} {n}" for kind, n in record["ends"].items())
        counts = [str(record[key]) for key in ("actions", "refused", "episodes")]
        values = [f"{most['speed']:.1f}", f"{most['energy']:.1f}", f"{most['hinge_excess']:.3f}"]
        values += [f"{1000 * most['slide_excess']:.1f}", f"{1000 * most['penetration']:.1f}"]
        rows.append([short(record["task"]), record["robot"], *counts, *values, ends])
    return note + "\n" + table(head, rows)


def measured(name: str) -> list[dict[str, Any]]:
    """The records of expert_<task>.json, where there is one."""
    paths = [RESULTS / f"expert_{name}.json", RESULTS / OLD_NAMES.get(name, "-")]
    found = next((path for path in paths if path.is_file()), None)
    return json.loads(found.read_text())["records"] if found else []


def conditions(record: dict[str, Any]) -> str:
    """Which scenes, and how the expert played them."""
    words = [record.get("split", "train")]
    words += ["in hand"] if record.get("in_hand") else []
    words += [record["choice"]] if "choice" in record else []
    words += ["disturbed"] if record.get("disturbance") else []
    return ", ".join(words)


def cost() -> str:
    """The table of `geoflow bench env`."""
    path = RESULTS / "bench_env.json"
    if not path.is_file():
        return "Not measured yet: `geoflow bench env --out docs/results/bench_env.json`.\n"
    content = json.loads(path.read_text())
    goals = content["goals"]
    columns = {
        "share_of_physics": ("env steps, of raw `mj_step` [%]", lambda x: f"{100 * x:.0f}"),
        "times_real_time": ("expert and controller, x real time", lambda x: f"{x:.0f}"),
        "reset_ms_median": ("reset [ms]", lambda x: f"{x:.1f}"),
        "reset_ms_p95": ("95 %", lambda x: f"{x:.0f}"),
        "observe_ms": ("observation [ms]", lambda x: f"{x:.3f}"),
        "frame_ms": ("84-pixel frame [ms]", lambda x: f"{x:.1f}"),
        "cpu_minutes_per_1000": ("CPU minutes for 1000 demonstrations", lambda x: f"{x:.1f}"),
    }
    head = ["task", "robot"]
    for key, (name, form) in columns.items():
        sign, _, goal = goals.get(key, "").partition(" ")
        head.append(f"{name} ({sign} {form(float(goal))})" if goal else name)
    rows = []
    for record in content["records"]:
        row = [short(record["task"]), record["robot"]]
        for key, (_, form) in columns.items():
            text = "-" if record[key] is None else form(record[key])
            row.append(f"**{text}**" if key in record["missed"] else text)
        rows.append(row)
    levels = sorted({record["level"] for record in content["records"]})
    note = (
        f"CPU time on one core ({content['hardware']}), level {', '.join(map(str, levels))}, mujoco "
        f"{content['versions']['mujoco']}, by `{content['command']}`. Goals are in the head; what misses its goal is "
        "bold. The physics is timed on the very states that the episodes pass through.\n"
    )
    return note + "\n" + table(head, rows)


def sentence(text: str) -> str:
    """The first sentence, on one line."""
    first = " ".join(text.partition("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".") + "."


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# The picture.

WIDTH, HEIGHT, SUPER = 330, 240, 2
"""Of one of the three pictures of a row [pixels], and how much larger it is rendered."""
GAP, CAPTION, MARGIN = 8, 40, 18
INK, GREY, PAPER = "#1d2530", "#5f6b7a", "#ffffff"
BACKDROP = (0.925, 0.94, 0.955)
QUALITY = 82
AZIMUTH, ELEVATION, FIELD, FILL = 128, -28, 26, 0.93
"""Of the camera [degrees]; how much of the picture's half height what must be seen takes."""
MOMENTS = {"KeyTurn": (0.1, 0.4, 1.0), "WireLoop": (0.0, 0.5, 1.0)}
"""Task -> where in the episode its pictures are, if not at 0.18, 0.62 and 1: the hand has come down by then."""
STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def gallery() -> bytes:
    """All tasks, a row each, as JPEG."""
    from PIL import Image, ImageDraw, ImageFont

    rows = [(short(task), *moments(task)) for task in TASKS]
    width = 2 * MARGIN + 3 * WIDTH + 2 * GAP
    sheet_of_paper = Image.new("RGB", (width, 2 * MARGIN + len(rows) * (CAPTION + HEIGHT + GAP) - GAP), PAPER)
    pen = ImageDraw.Draw(sheet_of_paper)
    bold, plain = ImageFont.load_default(19), ImageFont.load_default(14)
    for index, (name, what, frames) in enumerate(rows):
        top = MARGIN + index * (CAPTION + HEIGHT + GAP)
        base = top + CAPTION - 13
        pen.text((MARGIN, base), name, INK, bold, anchor="ls", stroke_width=0.4, stroke_fill=INK)
        pen.text((MARGIN + pen.textlength(name, bold) + 14, base), what, GREY, plain, anchor="ls")
        for column, frame in enumerate(frames):
            picture = Image.fromarray(frame).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
            mask = Image.new("L", (4 * WIDTH, 4 * HEIGHT))
            ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * WIDTH - 1, 4 * HEIGHT - 1), 40, 255)
            place = (MARGIN + column * (WIDTH + GAP), top + CAPTION)
            sheet_of_paper.paste(picture, place, mask.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    buffer = BytesIO()
    sheet_of_paper.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()


def moments(task: str) -> tuple[str, list[np.ndarray]]:
    """What is to be done, and three frames of an episode that the expert solves: start, under way, done."""
    env = gym.make(task, disable_env_checker=True, level=2)
    base: Any = env.unwrapped
    episode = next(solved(env))
    shares = MOMENTS.get(short(task), (0.18, 0.62, 1.0))
    chosen = [episode[round(share * (len(episode) - 1))] for share in shares]
    studio(base.model)
    renderer = mujoco.Renderer(base.model, SUPER * HEIGHT, SUPER * WIDTH)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = 1
    seen = []
    for state in chosen:
        restore(base, state)
        seen.append(places(base))
    camera = look(base.model, np.concatenate(seen))
    for name, behind in (("fogstart", 0.2), ("fogend", 1.9)):
        setattr(base.model.vis.map, name, (camera.distance + behind) / base.model.stat.extent)
    frames = []
    for state in chosen:
        restore(base, state)
        renderer.update_scene(base.data, camera=camera)
        frames.append(renderer.render().copy())
    renderer.close()
    what = sentence(inspect.getdoc(type(base)) or "")
    env.close()
    return what, frames


def solved(env: gym.Env) -> Iterator[list[np.ndarray]]:
    """All states of episodes that the expert solves."""
    base: Any = env.unwrapped
    for seed in range(3, 40):
        env.reset(seed=seed)
        expert = base.expert("greedy", seed)
        states, over, info = [], False, {}
        while not over:
            states.append(np.empty(mujoco.mj_stateSize(base.model, STATE)))
            mujoco.mj_getState(base.model, base.data, states[-1], STATE)
            _, _, terminated, truncated, info = env.step(expert.act())
            over = terminated or truncated
        if info["is_success"]:
            yield states


def restore(base: Any, state: np.ndarray) -> None:
    """Put the simulation into a state."""
    mujoco.mj_setState(base.model, base.data, state, STATE)
    mujoco.mj_forward(base.model, base.data)


def studio(model: Any) -> None:
    """A table without an edge that fades into a plain backdrop, smooth edges, fine shadows."""
    table = model.geom("table").id
    model.mat_texrepeat[model.geom_matid[table]] *= 5 / model.geom_size[table, :2]
    model.geom_size[table, :2] = 5
    for texture, kind in enumerate(model.tex_type):
        first = model.tex_adr[texture]
        count = model.tex_height[texture] * model.tex_width[texture]
        texels = model.tex_data[first : first + 3 * count].reshape(-1, 3)
        sky = kind == mujoco.mjtTexture.mjTEXTURE_SKYBOX
        # A quieter table: half the contrast.
        texels[:] = np.round(255 * np.array(BACKDROP)) if sky else 0.5 * (texels + texels.mean(0)) + 8
    look, quality = model.vis, model.vis.quality
    look.rgba.fog[:] = [*BACKDROP, 1]
    quality.shadowsize, quality.offsamples = 8192, 8
    look.headlight.ambient[:], look.headlight.diffuse[:] = 0.38, 0.34
    look.global_.offwidth, look.global_.offheight = SUPER * WIDTH, SUPER * HEIGHT
    look.global_.fovy = FIELD


def places(base: Any) -> np.ndarray:
    """Points (n, 3) that must be seen: of every body but the table's, the corners of what surrounds its geoms."""
    model, data = base.model, base.data
    geoms = np.flatnonzero((model.geom_bodyid > 0) & (model.geom_rgba[:, 3] > 0))
    radius = np.minimum(model.geom_rbound[geoms], 0.05)[:, None]
    centres = data.geom_xpos[geoms]
    corners = [centres + radius * np.array(corner) for corner in product((-0.6, 0.6), repeat=3)]
    return np.concatenate(corners)


def look(model: Any, points: np.ndarray) -> Any:
    """A camera that sees points (n, 3) [m] from the front right, in the middle and no farther than it must be."""
    azimuth, elevation = np.radians([AZIMUTH, ELEVATION])
    ahead = np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0])
    up = np.cross(right, ahead)
    axes = np.stack([right, up, ahead])
    low, high = (points @ axes.T).min(0), (points @ axes.T).max(0)
    middle = (low + high) / 2
    slope = np.tan(np.radians(FIELD) / 2) * FILL
    across, along, depth = (points @ axes.T - middle).T
    needed = np.maximum(np.abs(across) * HEIGHT / WIDTH, np.abs(along)) / slope - depth
    camera = mujoco.MjvCamera()
    camera.lookat[:] = middle @ axes
    camera.azimuth, camera.elevation = AZIMUTH, ELEVATION
    camera.distance = float(needed.max())
    return camera


def write(path: Path, content: bytes) -> None:
    """Write atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
