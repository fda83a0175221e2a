"""The report: one self-contained HTML page from a comparison; nothing in it is fetched from elsewhere."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from geoflow.data.atomic import write_text
from geoflow.data.demonstrations import DemonstrationError, Demonstrations
from geoflow.experiments import figures
from geoflow.experiments.chunk_picture import ChunkFlow, box_width, chunk_picture, sample_flow
from geoflow.experiments.comparison import Comparison, Run, read_comparison
from geoflow.experiments.conclusions import Record, best, cell_name, headline
from geoflow.experiments.config import EnvConfig
from geoflow.experiments.environments import make_env
from geoflow.experiments.json_files import write_json
from geoflow.experiments.rollout import Solver
from geoflow.experiments.stages import Stage
from geoflow.experiments.video import Clip, NoPictures, Shot, film
from geoflow.policies.checkpoint import load_policy
from geoflow.policies.execution import Execution


@dataclass(frozen=True)
class Pictures:
    """What is drawn or filmed with the trained policies themselves.

    Attributes:
        clips: Episodes on one scene that all met, then one that each failed.
        flows: Policy -> how its chunk comes about.
        missing: One sentence where there can be no clips; "" where there are.
    """

    clips: Sequence[Clip] = ()
    flows: Mapping[str, ChunkFlow] = field(default_factory=dict)
    missing: str = ""


def compare(runs: Sequence[Path | str], out: Path | str, *, videos: bool = True) -> Path:
    """Compare evaluated runs: ``out``/comparison.json and ``out``/report.html.

    Args:
        runs: Run folders with an eval.json each. Several seeds of one policy are pooled.
        out: The folder to write to.
        videos: Render rollouts, where OpenGL can be had.

    Returns:
        The path of the report.

    Raises:
        ValueError: no runs, one named twice, one that is not evaluated, or nothing in common to compare.
    """
    comparison = read_comparison(runs)
    out = Path(out)
    write_json(out / "comparison.json", list(comparison.records))
    return write_report(comparison, out / "report.html", videos=videos)


def write_report(
    comparison: Comparison,
    path: Path,
    *,
    videos: bool = True,
    stages: Sequence[Stage] = (),
    commands: Sequence[str] = (),
) -> Path:
    """Draw, film and write the page.

    Args:
        comparison: What to report.
        path: The HTML file.
        videos: Film rollouts, where OpenGL can be had.
        stages: Time and memory, where they were measured.
        commands: What regenerates it; by default the commands of the runs and `geoflow compare`.

    Returns:
        ``path``.
    """
    pictures = take_pictures(comparison, videos=videos)
    write_text(path, render(comparison, pictures, stages, commands or _commands(comparison, path.parent)))
    return path


def take_pictures(comparison: Comparison, *, videos: bool = True) -> Pictures:
    """Film and sample the first training of each policy, on the first task."""
    firsts = {run.policy: run for run in reversed(comparison.runs)}
    flows = {policy: _flow(firsts[policy]) for policy in comparison.policies}
    missing, clips = "", []
    if videos:
        try:
            clips = film(_shots(comparison, firsts))
        except NoPictures as error:
            missing = f"No videos here: {error}"
    return Pictures(clips, flows, missing)


def render(
    comparison: Comparison, pictures: Pictures, stages: Sequence[Stage], commands: Sequence[str]
) -> str:
    """The page."""
    loader = jinja2.PackageLoader("geoflow.experiments", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals["image"] = _image
    colours = figures.palette(comparison.policies)
    first = comparison.records[0]
    metrics = {
        policy: [run.metrics for run in comparison.runs if run.policy == policy and run.metrics]
        for policy in comparison.policies
    }
    metrics = {policy: runs for policy, runs in metrics.items() if runs}
    return environment.get_template("report.html.j2").render(
        title=_title(comparison),
        date=datetime.now(timezone.utc).strftime("%d %B %Y"),
        lead=_lead(comparison),
        chips=_chips(comparison),
        caveats=comparison.caveats,
        seeds=max(len(set(record["seeds"])) for record in comparison.records),
        tasks=[_task(comparison, task, colours) for task in comparison.tasks],
        latency_where=f"one {_device(first)}, batch 1",
        latency_calls=_latency_calls(comparison),
        clips=_clip_groups(pictures.clips, colours),
        no_pictures=pictures.missing,
        flow_picture=chunk_picture(pictures.flows, colours) if pictures.flows else None,
        flow_box=f"{100 * box_width(pictures.flows):.0f}" if pictures.flows else "",
        training=figures.training_curves(metrics, colours) if metrics else None,
        stages=_stage_rows(stages),
        stages_note=_stages_note(stages),
        costs=[_cost_row(run) for run in comparison.runs],
        facts=_facts(comparison),
        commands=commands,
    )


# Words.


def _title(comparison: Comparison) -> str:
    task = comparison.records[0]["env_id"].rsplit("/", 1)[-1]
    first, *others = comparison.policies
    if not others:
        return f"{first} on {task}"
    names = others[0] if len(others) == 1 else ", ".join(others[:-1]) + f" and {others[-1]}"
    return f"{first} against {names} on {task}"


def _lead(comparison: Comparison) -> str:
    """The answer in two sentences."""
    task = comparison.tasks[0]
    here = [record for record in comparison.records if record["task"] == task]
    quoted = {p: headline(r for r in here if r["policy"] == p) for p in comparison.policies if _of(here, p)}
    parts = [f"{p} {100 * record['success_rate']:.0f} %" for p, record in quoted.items()]
    nfe = {record["nfe"] for record in quoted.values()}
    at = (
        f"{nfe.pop()} network evaluations a chunk"
        if len(nfe) == 1
        else "up to 10 network evaluations a chunk"
    )
    joined = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" and {parts[-1]}"
    text = f"With {at}, of held-out scenes ({task}) {joined} were solved."
    open_ = [f for f in comparison.findings if f.task == task and not f.decided]
    if open_:
        pairs = "; ".join(" against ".join(finding.pair) for finding in open_)
        text += f" Not decided at this size: {pairs}."
    return text


def _chips(comparison: Comparison) -> list[tuple[str, str]]:
    record, run = comparison.records[0], comparison.runs[0]
    train = run.meta["config"]["train"]
    scenes = sorted({r["episodes"] // len(r["seeds"]) for r in comparison.records})
    chips = [
        ("task", record["env_id"].rsplit("/", 1)[-1]),
        ("level", record["level"]),
        ("robot", record["robot"]),
        ("peg in hand at the start", {True: "yes", False: "no"}.get(record["in_hand"])),
        ("demonstrations", _demonstrations(run)),
        ("budget", f"{train['steps']:,} steps of batch {train['batch_size']}"),
        ("training seeds", max(len(set(r["seeds"])) for r in comparison.records)),
        ("held-out scenes", " to ".join(map(str, scenes[:: max(len(scenes) - 1, 1)]))),
    ]
    return [(name, str(value)) for name, value in chips if value is not None]


def _demonstrations(run: Run) -> str | None:
    episodes = 0
    try:
        for path in _files(run):
            with Demonstrations(path) as demonstrations:
                episodes += len(demonstrations)
    except (DemonstrationError, OSError):
        return None
    return str(episodes)


def _files(run: Run) -> list[str]:
    """The demonstration files, of which a policy of several tasks has several."""
    demos = run.meta["config"]["train"]["demos"]
    return [demos] if isinstance(demos, str) else demos


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    run, record = comparison.runs[0], comparison.records[0]
    policy, train, env = (run.meta["config"][part] for part in ("policy", "train", "env"))
    kwargs = ", ".join(f"{key} = {value}" for key, value in env["kwargs"].items()) or "defaults"
    seeds = sorted({f"{run.seed}" for run in comparison.runs})
    last = max(r["first_seed"] + r["episodes"] // len(r["seeds"]) - 1 for r in comparison.records)
    rates = [run.meta.get("spec", {}).get("control_hz") for run in comparison.runs]
    facts = [
        ("task", f"{env['id']} ({kwargs})"),
        (
            "demonstrations",
            ", ".join(_files(run)) + (f", {n} episodes" if (n := _demonstrations(run)) else ""),
        ),
        ("network", f"{policy['backbone']}, width {policy['width']}, depth {policy['depth']}"),
        (
            "chunks",
            f"{policy['horizon']} steps, {record['execute']} of them executed, {policy['frame']} frame",
        ),
        ("control rate", f"{rates[0]:g} Hz" if rates[0] else None),
        (
            "training",
            f"{train['steps']:,} steps, batch {train['batch_size']}, AdamW {train['learning_rate']:g}",
        ),
        ("training seeds", ", ".join(seeds)),
        (
            "held-out scenes",
            f"seeds {record['first_seed']} to {last}; a scene and its noise are the same for every policy",
        ),
        ("weights evaluated", "the last checkpoint, averaged over training (EMA)"),
        ("hardware", record["hardware"]),
        ("versions", ", ".join(f"{key} {value}" for key, value in (record["versions"] or {}).items())),
        ("commit", record["commit"]),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _commands(comparison: Comparison, out: Path) -> list[str]:
    """What made the runs, where it is known, and this report."""
    trained = [run.meta.get("command") for run in comparison.runs]
    evaluated = [record.get("command") for run in comparison.runs for record in run.records]
    known = dict.fromkeys(c for c in [*trained, *evaluated] if c and c.split()[0].endswith("geoflow"))
    runs = " ".join(shlex.quote(str(run.folder)) for run in comparison.runs)
    return [*known, f"geoflow compare {runs} --out {shlex.quote(str(out))}"]


def _device(record: Record) -> str:
    return "processor thread" if record["device"] == "cpu" else f"thread and {record['device']}"


def _latency_calls(comparison: Comparison) -> str:
    calls = {r["latency_calls"] for run in comparison.runs for r in run.records if "latency_calls" in r}
    return str(min(calls)) if calls else "repeated"


# Numbers.


def _of(records: Sequence[Record], policy: str) -> list[Record]:
    return [record for record in records if record["policy"] == policy]


def _task(comparison: Comparison, task: str, colours: Mapping[str, str]) -> dict[str, Any]:
    records = [record for record in comparison.records if record["task"] == task]
    policies = [policy for policy in comparison.policies if _of(records, policy)]
    rates = [run.meta.get("spec", {}).get("control_hz") for run in comparison.runs]
    return {
        "name": task,
        "policies": ", ".join(policies),
        "cards": [_card(_of(records, policy), colours[policy]) for policy in policies],
        "findings": [finding for finding in comparison.findings if finding.task == task],
        "success": figures.success_by_nfe(records, colours),
        "latency": figures.latency_by_nfe(records, colours, rates[0]),
        "endings": figures.endings(records, policies),
        "rows": _rows(records, colours),
        "modes": _modes([best(_of(records, policy)) for policy in policies]),
    }


def _card(records: Sequence[Record], colour: str) -> dict[str, Any]:
    quoted, top = headline(records), best(records)
    better = top["success_rate"] > quoted["success_rate"]
    return {
        "policy": quoted["policy"],
        "colour": colour,
        "at": cell_name(quoted),
        "best": f"{100 * top['success_rate']:.0f} % at {cell_name(top)}" if better else "",
        "latency": _digits(quoted["latency_ms_median"]),
        **_interval(quoted),
    }


def _interval(record: Record) -> dict[str, Any]:
    return {
        "percent": round(100 * record["success_rate"]),
        "low": round(100 * record["ci_low"]),
        "high": round(100 * record["ci_high"]),
        "successes": record["successes"],
        "episodes": record["episodes"],
    }


def _rows(records: Sequence[Record], colours: Mapping[str, str]) -> list[dict[str, Any]]:
    order = {policy: i for i, policy in enumerate(colours)}
    ordered = sorted(
        records, key=lambda r: (order[r["policy"]], r["solver"] == "ddpm", r["solver"], r["nfe"])
    )
    rows = []
    for before, record in zip([None, *ordered], ordered, strict=False):
        train = record["train_seconds"]
        rows.append(
            {
                "first": before is not None and before["policy"] != record["policy"],
                "policy": record["policy"],
                "colour": colours[record["policy"]],
                "solver": record["solver"],
                "nfe": record["nfe"],
                "by_seed": " ".join(f"{100 * rate:.0f}" for rate in record["seed_rates"]),
                "steps": f"{record['mean_steps']:.0f}",
                "median": _digits(record["latency_ms_median"]),
                "p95": _digits(record["latency_ms_p95"]),
                "train": f"{train:.0f}" if train is not None else "–",
                "parameters": f"{record['parameters'] / 1e6:.2f} M",
                **_interval(record),
            }
        )
    return rows


def _modes(cells: Sequence[Record]) -> str:
    """Which of the symmetric solutions were used, where a task has several."""
    parts = []
    for cell in cells:
        counts = {mode: n for mode, n in cell["modes"].items() if mode != "-1"}
        if len(counts) > 1:
            parts.append(f"{cell['policy']} {', '.join(map(str, counts.values()))}")
    text = "The task has several symmetric solutions. Solved episodes by the one that was chosen: "
    return f"{text}{'; '.join(parts)}." if parts else ""


def _cost_row(run: Run) -> dict[str, str]:
    seconds = run.meta.get("train_seconds")
    return {
        "run": f"{run.policy}, seed {run.seed}",
        "train": _duration(seconds) if seconds is not None else "–",
        "samples": _median(line.get("samples_per_second") for line in run.metrics),
        "steps": _median(record["env_steps_per_second"] for record in run.records),
        "chunks": _median(record["chunks_per_second"] for record in run.records),
    }


def _stage_rows(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    longest = max((stage.seconds for stage in stages), default=1.0)
    return [
        {
            "name": stage.name,
            "time": _duration(stage.seconds),
            "share": f"{100 * stage.seconds / longest:.1f}",
            "memory": f"{stage.peak_mb:,.0f} MB",
            "speed": stage.speed,
        }
        for stage in stages
    ]


def _stages_note(stages: Sequence[Stage]) -> str:
    total = _duration(sum(stage.seconds for stage in stages))
    return f"{total} in all. Memory is the largest sum of resident memory over all processes of a stage."


def _median(values: Any) -> str:
    known = sorted(value for value in values if value is not None)
    return f"{known[len(known) // 2]:,.0f}" if known else "–"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


# Pictures.


def _image(content: bytes, kind: str, words: str) -> Markup:
    """An <img> that carries its content."""
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Markup('<img src="{}" alt="{}">').format(source, words)


def _flow(run: Run) -> ChunkFlow:
    """How a chunk comes about at the beginning of the first held-out scene."""
    record = run.records[0]
    policy = load_policy(run.folder)
    env = make_env(EnvConfig(record["env_id"], record["env_kwargs"]))
    try:
        obs, _ = env.reset(seed=record["first_seed"])
    finally:
        env.close()
    return sample_flow(policy, obs, seed=record["first_seed"])


def _shots(comparison: Comparison, firsts: Mapping[str, Run]) -> list[Shot]:
    """The first scene for everyone, at each policy's best cell; then a scene that each failed."""
    together, failed = [], []
    for policy in comparison.policies:
        record = best(firsts[policy].records)
        env = EnvConfig(record["env_id"], record["env_kwargs"])

        def shot(seed: int, run: Run = firsts[policy], env: EnvConfig = env, cell: Record = record) -> Shot:
            solver = Solver(cell["nfe"], cell["solver"])
            execution = Execution(**{name: cell[name] for name in Execution.__dataclass_fields__})
            return Shot(str(run.folder), run.policy, env, execution, solver, seed)

        episodes = record["episode_records"]
        together.append(shot(episodes[0]["seed"]))
        lost = [episode["seed"] for episode in episodes[1:] if not episode["success"]]
        failed += [shot(lost[0])] if lost else []
    return [*together, *failed]


def _clip_groups(clips: Sequence[Clip], colours: Mapping[str, str]) -> list[dict[str, Any]]:
    if not clips:
        return []
    scene = clips[0].shot.seed
    together = [clip for clip in clips if clip.shot.seed == scene]
    failed = [clip for clip in clips if clip.shot.seed != scene]
    groups = [
        {
            "title": f"The same scene for all (seed {scene})",
            "text": "Each policy at its best cell, in real time. Below, the same episodes as strips.",
            "clips": [_clip(clip, colours, "") for clip in together],
            "strips": True,
        }
    ]
    if failed:
        groups.append(
            {
                "title": "A scene that each failed in the evaluation",
                "text": "Filmed anew with the same seed; rounding may let an episode end otherwise than before.",
                "clips": [_clip(clip, colours, f" (seed {clip.shot.seed})") for clip in failed],
                "strips": False,
            }
        )
    return groups


def _clip(clip: Clip, colours: Mapping[str, str], scene: str) -> dict[str, Any]:
    solver = clip.shot.solver
    return {
        "policy": clip.shot.policy,
        "colour": colours[clip.shot.policy],
        "at": cell_name({"nfe": solver.nfe, "solver": solver.name}),
        "ending": clip.ending,
        "scene": scene,
        "mp4": base64.b64encode(clip.mp4).decode(),
        "strip": clip.strip,
    }
