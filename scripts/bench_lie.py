"""Accuracy and speed of SE(3) against the peers that are installed: torchlie, PyPose, RoMa, SciPy, PyTorch3D, jaxlie.

    pip install -e '.[test,train]' torchlie==0.1.0 pypose==0.9.5 roma==1.8.0 jaxlie==1.5.0
    python scripts/bench_lie.py --out docs/benchmarks

Same inputs, one process, one thread, rounds interleaved between the libraries, so that whatever else the
machine does hits all of them alike. Inputs and outputs are in each library's own
storage, row-major; ours are (B, 7) rows. Writes lie.json and the plots, and prints the tables. Peers that are
not installed are left out and named.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import mpmath as mp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch._inductor.config  # noqa: E402
from torch import Tensor  # noqa: E402

from geoflow.lie import se3, so3  # noqa: E402
from tests.lie import reference  # noqa: E402

OPERATIONS = ("exp", "log", "compose", "inverse", "path")
ANGLES = [0.0, *[10.0**-k for k in range(12, 1, -1)], 0.1, 1.0, math.pi / 2, 3.0]
ANGLES += [*[math.pi - 10.0**-k for k in range(2, 9)], math.pi]
LENGTHS = [1e-6, 1e-3, 1.0, 1e3]


@dataclass
class Library:
    """One library: how it stores what we store, and its operations on its own storage."""

    name: str
    package: str
    point: Callable[[Tensor], Any]  # our poses (B, 7) -> its poses
    tangent: Callable[[Tensor], Any]  # our twists (B, 6) -> its twists
    ours: Callable[[Any], Tensor]  # its poses -> matrices (B, 4, 4)
    twist: Callable[[Any], Tensor]  # its twists -> our twists (B, 6)
    exp: Callable[[Any], Any]
    log: Callable[[Any], Any]
    compose: Callable[[Any, Any], Any]
    inverse: Callable[[Any], Any]
    path: Callable[[Any, Any, Any], Any]
    time: Callable[[Tensor], Any] = lambda t: t
    wait: Callable[[Any], Any] = lambda y: y
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    rotation_only: bool = False
    differentiable: bool = True
    notes: dict[str, str] = field(default_factory=dict)


def same(x: Any) -> Any:
    return x


def geoflow(compiled: bool) -> Library:
    def built(f: Any) -> Any:
        return torch.compile(f, fullgraph=True, dynamic=False) if compiled else f

    name = "geoflow compiled" if compiled else "geoflow"
    functions = [built(f) for f in (se3.exp, se3.log, se3.compose, se3.inverse, se3.geodesic)]
    return Library(name, "geoflow", same, same, se3.to_matrix, same, *functions)


def torchlie() -> Library:
    S = importlib.import_module("torchlie.functional").SE3

    def path(x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        xi = S.log(S.compose(S.inv(x), y))
        return S.compose(x, S.exp(t[:, None] * xi)), xi

    def square(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_tensor([[[0.0, 0, 0, 1]]]).expand(len(x), 1, 4)], dim=1)

    return Library(
        "torchlie", "torchlie", lambda x: se3.to_matrix(x)[:, :3].contiguous(), same, square, same,
        S.exp, S.log, S.compose, S.inv, path,
    )  # fmt: skip


def pypose() -> Library:
    pp = importlib.import_module("pypose")

    def path(x: Any, y: Any, t: Tensor) -> tuple[Any, Any]:
        xi = (x.Inv() @ y).Log()
        return x @ pp.se3(t[:, None] * xi.tensor()).Exp(), xi

    return Library(
        "pypose", "pypose", lambda x: pp.SE3(se3.to_xyzw(x)), pp.se3, lambda x: x.matrix(), lambda v: v.tensor(),
        lambda v: v.Exp(), lambda x: x.Log(), lambda x, y: x @ y, lambda x: x.Inv(), path,
    )  # fmt: skip


def pytorch3d() -> Library:
    T = importlib.import_module("pytorch3d.transforms")

    def path(x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        xi = T.se3_log_map(y @ torch.linalg.inv(x))
        return T.se3_exp_map(t[:, None] * xi) @ x, xi

    return Library(
        "pytorch3d", "pytorch3d", lambda x: se3.to_matrix(x).mT.contiguous(), same, lambda x: x.mT, same,
        T.se3_exp_map, T.se3_log_map, lambda x, y: y @ x, torch.linalg.inv, path,
    )  # fmt: skip


def roma() -> Library:
    R = importlib.import_module("roma")

    def path(x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        xi = R.unitquat_to_rotvec(R.quat_product(R.quat_conjugation(x), y))
        return R.quat_product(x, R.rotvec_to_unitquat(t[:, None] * xi)), xi

    def rotation(q: Tensor) -> Tensor:
        T = torch.eye(4, dtype=q.dtype).repeat(len(q), 1, 1)
        T[:, :3, :3] = R.unitquat_to_rotmat(q)
        return T

    return Library(
        "roma", "roma", lambda x: so3.to_xyzw(x[:, 3:]).contiguous(), lambda v: v[:, 3:].contiguous(), rotation,
        lambda v: torch.nn.functional.pad(v, (3, 0)), R.rotvec_to_unitquat, R.unitquat_to_rotvec, R.quat_product,
        R.quat_conjugation, path, rotation_only=True,
    )  # fmt: skip


def scipy() -> Library:
    transform = importlib.import_module("scipy.spatial.transform")
    S = transform.RigidTransform

    def swap(v: Tensor) -> np.ndarray:
        return torch.cat([v[:, 3:], v[:, :3]], dim=1).double().numpy()

    def path(x: Any, y: Any, t: np.ndarray) -> tuple[Any, Any]:
        xi = (x.inv() * y).as_exp_coords()
        return x * S.from_exp_coords(t[:, None] * xi), xi

    def unswap(v: np.ndarray) -> Tensor:
        return torch.from_numpy(np.concatenate([v[:, 3:], v[:, :3]], axis=1))

    return Library(
        "scipy", "scipy", lambda x: S.from_matrix(se3.to_matrix(x.double()).numpy()), swap,
        lambda x: torch.from_numpy(x.as_matrix()), unswap, S.from_exp_coords, lambda x: x.as_exp_coords(),
        lambda x, y: x * y, lambda x: x.inv(), path, time=lambda t: t.double().numpy(),
        dtypes=(torch.float64,), differentiable=False,
    )  # fmt: skip


def jaxlie() -> Library:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jaxlie = importlib.import_module("jaxlie")
    S = jaxlie.SE3

    def pose(x: Tensor) -> Any:
        return jax.numpy.asarray(torch.cat([x[:, 3:], x[:, :3]], dim=1).numpy())

    def path(x: Any, y: Any, t: Any) -> tuple[Any, Any]:
        xi = (S(x).inverse() @ S(y)).log()
        return (S(x) @ S.exp(t[:, None] * xi)).wxyz_xyz, xi

    functions = [
        lambda v: S.exp(v).wxyz_xyz,
        lambda x: S(x).log(),
        lambda x, y: (S(x) @ S(y)).wxyz_xyz,
        lambda x: S(x).inverse().wxyz_xyz,
        path,
    ]
    return Library(
        "jaxlie (jit)", "jaxlie", pose, lambda v: jax.numpy.asarray(v.numpy()),
        lambda x: torch.from_numpy(np.array(S(x).as_matrix())), lambda v: torch.from_numpy(np.array(v)),
        *[jax.jit(f) for f in functions], time=lambda t: jax.numpy.asarray(t.numpy()),
        wait=jax.block_until_ready, differentiable=False,
    )  # fmt: skip


PEERS = {
    "torchlie": torchlie,
    "pypose": pypose,
    "pytorch3d": pytorch3d,
    "roma": roma,
    "scipy": scipy,
    "jaxlie": jaxlie,
}


def installed() -> tuple[list[Library], list[str]]:
    found, missing = [], []
    for name, build in PEERS.items():
        try:
            found.append(build())
        except ImportError:
            missing.append(name)
    return found, missing


def microseconds(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Wall time, minimum and median over rounds; in each round every library runs, one after the other.

    A slice is about a millisecond, after calls that warm the caches: on a busy machine the minimum is then still
    of undisturbed slices.
    """
    repeats = {}
    for name, call in calls.items():
        once = min(_elapsed(call, 1) for _ in range(8))
        repeats[name] = max(2, min(20, int(1e3 / once)))
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            _elapsed(call, 2)
            spent[name].append(_elapsed(call, repeats[name]))
    return {name: {"min": min(s), "median": statistics.median(s)} for name, s in spent.items()}


def _elapsed(call: Callable[[], Any], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return 1e6 * (time.perf_counter() - begin) / repeats


def speed(libraries: list[Library], batches: list[int], rounds: int) -> list[dict[str, Any]]:
    """Forward and forward-and-backward times of every operation, float32 (SciPy float64)."""
    records = []
    for batch in batches:
        generator = torch.Generator().manual_seed(batch)
        x, y = (se3.random_uniform(batch, generator=generator) for _ in range(2))
        xi, t = se3.log(y), torch.rand(batch, generator=generator)
        for operation in OPERATIONS:
            forward, both = {}, {}
            for lib in libraries:
                arguments = {
                    "exp": (lib.tangent(xi),),
                    "log": (lib.point(x),),
                    "compose": (lib.point(x), lib.point(y)),
                    "inverse": (lib.point(x),),
                    "path": (lib.point(x), lib.point(y), lib.time(t)),
                }[operation]
                f = getattr(lib, operation)
                forward[lib.name] = lambda f=f, a=arguments, lib=lib: lib.wait(f(*a))
                if lib.differentiable and lib.name != "geoflow compiled":
                    both[lib.name] = lambda f=f, a=arguments: _backward(f, a)
            for direction, calls in (("forward", forward), ("forward+backward", both)):
                for name, spent in microseconds(calls, rounds).items():
                    records.append(
                        {
                            "library": name,
                            "operation": operation,
                            "batch": batch,
                            "direction": direction,
                            **spent,
                        }
                    )
                    print(
                        f"{batch:>6} {operation:<8} {direction:<17} {name:<17} {spent['min']:>9.1f} us",
                        flush=True,
                    )
    return records


def _backward(f: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    leaves = [a.detach().requires_grad_() for a in arguments]
    outputs = f(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    outputs = [y.tensor() if hasattr(y, "ltype") else y for y in outputs]
    torch.autograd.grad([y.sum() for y in outputs], leaves, allow_unused=True)


def accuracy(libraries: list[Library]) -> list[dict[str, Any]]:
    """Worst relative error of exp's position and log's twist at each angle, against 60 digits."""
    records = []
    axis, direction = torch.tensor([0.48, -0.6, 0.64]).double(), torch.tensor([0.6, 0.0, 0.8]).double()
    for dtype in (torch.float32, torch.float64):
        rows = [torch.cat([length * direction, angle * axis]) for angle in ANGLES for length in LENGTHS]
        xi = torch.stack(rows).to(dtype)
        x = se3.exp(xi.double()).to(dtype)
        x = torch.cat([x[:, :3], so3.normalise(x[:, 3:])], dim=1)
        exact_exp = [reference.exp(reference.exact(row)) for row in xi.tolist()]
        exact_log = [reference.log(reference.exact(row)) for row in x.tolist()]
        for lib in libraries:
            if dtype not in lib.dtypes or lib.rotation_only or lib.name == "geoflow compiled":
                continue
            exp = lib.ours(lib.exp(lib.tangent(xi)))[:, :3, 3].double()
            log = lib.twist(lib.log(lib.point(x))).double()
            for i, angle in enumerate(ANGLES):
                span = range(i * len(LENGTHS), (i + 1) * len(LENGTHS))
                records.append(
                    {
                        "library": lib.name,
                        "dtype": str(dtype).removeprefix("torch."),
                        "angle": angle,
                        "exp_position": max(_relative(exp[j].tolist(), exact_exp[j][:3]) for j in span),
                        "log_translation": max(
                            _relative(log[j, :3].tolist(), exact_log[j][:3]) for j in span
                        ),
                        "log_rotation": max(_axis_free(log[j, 3:].tolist(), exact_log[j][3:]) for j in span),
                    }
                )
    return records


def _relative(found: list[float], true: list[Any]) -> float:
    size = mp.sqrt(mp.fsum(c**2 for c in true))
    gap = mp.sqrt(mp.fsum((mp.mpf(a) - b) ** 2 for a, b in zip(found, true, strict=True)))
    return float(gap / size) if size > 0 else float(gap)


def _axis_free(found: list[float], true: list[Any]) -> float:
    """At half turns omega and -omega are the same answer."""
    return min(_relative(found, true), _relative(found, [-c for c in true]))


def gradients() -> list[dict[str, Any]]:
    """Worst relative error of geoflow's derivatives over the whole grid, block by block."""
    from tests.lie import test_accuracy as grid

    records = []
    for dtype in (torch.float32, torch.float64):
        xi = grid.twists(dtype)
        x, known = se3.exp(xi), grid.references(dtype)
        exp = torch.func.vmap(torch.func.jacrev(se3.exp))(xi)
        by_step = torch.func.jacrev(lambda d, y: se3.log(se3.compose(y, se3.exp(d))))
        log = torch.func.vmap(by_step)(torch.zeros_like(xi), x)
        P, Q, V, W = slice(0, 3), slice(3, 7), slice(0, 3), slice(3, 6)
        found = {
            "exp: position": (se3.exp(xi), "exp", (P,)),
            "exp: quaternion": (se3.exp(xi), "exp", (Q,)),
            "exp: dp/dv": (exp, "dexp", (P, V)),
            "exp: dp/domega": (exp, "dexp", (P, W)),
            "exp: dq/domega": (exp, "dexp", (Q, W)),
            "log: v": (se3.log(x), "log", (V,)),
            "log: omega": (se3.log(x), "log", (W,)),
            "log: dv/dv": (log, "dlog", (V, V)),
            "log: dv/domega": (log, "dlog", (V, W)),
            "log: domega/domega": (log, "dlog", (W, W)),
        }
        for name, (value, key, block) in found.items():
            worst = grid.worst(value, known[key], block)
            records.append({"quantity": name, "dtype": str(dtype).removeprefix("torch."), "worst": worst})
            print(f"{name:<20} {dtype!s:<14} {worst:.1e}")
    return records


def sampler_step(rounds: int) -> dict[str, Any]:
    """One Euler step (features, network, update) at batch 256 on SE(3) against the same in R^9."""
    import torch.nn as nn

    from geoflow.manifolds import SE3, Euclidean

    torch._inductor.config.force_disable_caches = True  # a cold start, not a warm cache
    torch.manual_seed(0)
    width, cond = 256, torch.randn(256, 64)
    t, dt = torch.full((256, 1), 0.3), torch.tensor(0.1)
    results: dict[str, Any] = {"network": f"3 hidden layers of {width}, SiLU, condition of 64", "batch": 256}
    steps = {}
    for space in (SE3(), Euclidean(9)):
        net = nn.Sequential(
            nn.Linear(9 + 1 + 64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width),
            nn.SiLU(), nn.Linear(width, space.tangent_dim),
        )  # fmt: skip

        def step(x: Tensor, net: nn.Module = net, space: Any = space) -> Tensor:
            return space.exp(x, dt * net(torch.cat([space.features(x), t, cond], dim=-1)))

        steps[type(space).__name__] = (step, space.project(torch.randn(256, space.point_dim)))
    with torch.no_grad():
        for mode in ("eager", "compiled"):
            calls = {}
            for name, (step, x) in steps.items():
                torch._dynamo.reset()
                f = torch.compile(step, fullgraph=True) if mode == "compiled" else step
                begin, cpu = time.perf_counter(), os.times()
                f(x)
                after = os.times()
                if mode == "compiled":
                    busy = sum(after[:4]) - sum(cpu[:4])
                    results[f"{name} cold start"] = {"wall_s": time.perf_counter() - begin, "cpu_s": busy}
                calls[name] = lambda f=f, x=x: f(x)
            spent = microseconds(calls, rounds)
            results[mode] = spent
            results[f"{mode} ratio"] = {
                key: spent["SE3"][key] / spent["Euclidean"][key] for key in ("min", "median")
            }
            print(mode, results[f"{mode} ratio"])
    print({key: value for key, value in results.items() if "cold" in key})
    return results


def plots(result: dict[str, Any], out: Path) -> None:
    """Error against angle, and throughput at the largest batch."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex=True)
    records = result["accuracy"]
    for row, dtype in enumerate(("float32", "float64")):
        for column, quantity in enumerate(("exp_position", "log_translation")):
            ax = axes[row, column]
            for name in dict.fromkeys(r["library"] for r in records):
                chosen = [r for r in records if r["library"] == name and r["dtype"] == dtype]
                if not chosen:
                    continue
                style = {"lw": 2.5, "color": "black"} if name == "geoflow" else {"lw": 1.2}
                ax.semilogy([max(r[quantity], 1e-17) for r in chosen], label=name, **style)
            ax.axhline(5e-7 if dtype == "float32" else 5e-14, color="grey", ls=":", lw=1)
            ax.set_title(f"{quantity.replace('_', ' ')}, {dtype}", fontsize=10)
    labels = [_angle_label(angle) for angle in ANGLES]
    for ax in axes[1]:
        ax.set_xticks(range(len(ANGLES)), labels, rotation=70, fontsize=7)
        ax.set_xlabel("rotation angle")
    axes[0, 0].legend(fontsize=7)
    axes[0, 0].set_ylabel("worst relative error")
    axes[1, 0].set_ylabel("worst relative error")
    figure.tight_layout()
    figure.savefig(out / "lie_accuracy.png", dpi=110)

    largest = max(r["batch"] for r in result["speed"])
    chosen = [r for r in result["speed"] if r["batch"] == largest and r["direction"] == "forward"]
    names = list(dict.fromkeys(r["library"] for r in chosen))
    figure, ax = plt.subplots(figsize=(10, 4))
    for i, name in enumerate(names):
        rates = [next(r for r in chosen if r["library"] == name and r["operation"] == o) for o in OPERATIONS]
        ax.bar([j + 0.8 * i / len(names) for j in range(len(OPERATIONS))],
               [largest / r["min"] for r in rates], 0.8 / len(names), label=name)  # fmt: skip
    ax.set_xticks([j + 0.35 for j in range(len(OPERATIONS))], OPERATIONS)
    ax.set_yscale("log")
    ax.set_ylabel("million poses a second")
    ax.set_title(
        f"forward, batch {largest}, one CPU thread (roma: rotations only; scipy: float64)", fontsize=10
    )
    ax.legend(fontsize=7, ncol=4)
    figure.tight_layout()
    figure.savefig(out / "lie_speed.png", dpi=110)


def _angle_label(angle: float) -> str:
    if angle > 3.1:
        return "pi" if angle == math.pi else f"pi-{math.pi - angle:.0e}"
    return f"{angle:.3g}"


def tables(result: dict[str, Any]) -> str:
    """The tables of docs/benchmarks.md."""
    lines = []
    names = list(dict.fromkeys(r["library"] for r in result["speed"]))
    for batch in dict.fromkeys(r["batch"] for r in result["speed"]):
        for direction in ("forward", "forward+backward"):
            lines += ["", f"Batch {batch}, {direction}: microseconds a call, minimum (median).", ""]
            lines += ["| library | " + " | ".join(OPERATIONS) + " |", "|---" * (len(OPERATIONS) + 1) + "|"]
            for name in names:
                row = {
                    r["operation"]: r
                    for r in result["speed"]
                    if (r["library"], r["batch"], r["direction"]) == (name, batch, direction)
                }
                if row:
                    cells = [f"{row[o]['min']:.1f} ({row[o]['median']:.1f})" for o in OPERATIONS]
                    lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Worst relative error over all angles and lengths (where it happens).", ""]
    lines += [
        "| library | dtype | exp, position | log, translation | log, rotation |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r["library"] for r in result["accuracy"]):
        for dtype in ("float32", "float64"):
            rows = [r for r in result["accuracy"] if (r["library"], r["dtype"]) == (name, dtype)]
            if rows:
                cells = []
                for quantity in ("exp_position", "log_translation", "log_rotation"):
                    bad = [r for r in rows if not math.isfinite(r[quantity])]
                    top = bad[0] if bad else max(rows, key=lambda r: r[quantity])
                    cells.append(f"{top[quantity]:.0e} ({_angle_label(top['angle'])})")
                lines.append(f"| {name} | {dtype} | " + " | ".join(cells) + " |")
    lines += ["", "geoflow, forward and gradients, worst over the grid:", ""]
    lines += ["| quantity | float32 | float64 |", "|---|---|---|"]
    by_name: dict[str, dict[str, float]] = {}
    for r in result["gradients"]:
        by_name.setdefault(r["quantity"], {})[r["dtype"]] = r["worst"]
    lines += [f"| {name} | {w['float32']:.1e} | {w['float64']:.1e} |" for name, w in by_name.items()]
    return "\n".join(lines)


def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "source"


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description="Accuracy and speed of SE(3) against the installed peers.")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 4096])
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    peers, missing = installed()
    libraries = [geoflow(compiled=False), geoflow(compiled=True), *peers]
    packages = {lib.package: package_version(lib.package) for lib in peers}
    result = {
        "command": "python scripts/bench_lie.py " + " ".join(sys.argv[1:]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, **packages},
        "not_installed": missing,
        "processor": _processor(),
        "threads": 1,
        "load_before": os.getloadavg(),
        "gradients": gradients(),
        "accuracy": accuracy(libraries),
        "sampler_step": sampler_step(args.rounds),
        "speed": speed(libraries, args.batches, args.rounds),
    }
    result["load_after"] = os.getloadavg()
    text = json.dumps(result, indent=1)
    temporary = args.out / "lie.json.tmp"
    temporary.write_text(text + "\n")
    os.replace(temporary, args.out / "lie.json")
    plots(result, args.out)
    print(tables(result))
    print(args.out / "lie.json")


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].split(':')[1].strip()}, {len(names)} cores" if names else platform.processor()


if __name__ == "__main__":
    main()
