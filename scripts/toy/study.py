"""The study: cells (set, method, amount of data), each trained, measured and kept as one JSON file.

A cell that has its file is not computed again. Cells whose source (the network they sample or learn from) is not
there yet wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from geoflow.data.atomic import replacing
from geoflow.experiments.json_files import read_json, write_json
from geoflow.experiments.processes import processes
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import commit

from .methods import METHODS, Learner, Method, Problem
from .metrics import POINTS, fresh, likelihood, quality, straightness
from .nets import StackedMLP
from .sets import SETS, ToySet
from .training import Budget, Data, train

DATA = 30000
"""Training points of a set, where a cell does not say otherwise."""
SMALL_DATA, SMALL_SETS = (300, 3000), ("peaks", "box")
SMALL_METHODS = ("plain", "bridge", "ddpm_v", "ddpm_ancestral")
LIKELIHOOD_POINTS = 512
CURVE_STEPS = 50


@dataclass(frozen=True)
class Cell:
    """What is computed as one: all seeds of a method on a set with so many training points."""

    toy: str
    method: str
    data: int = DATA

    @property
    def name(self) -> str:
        """As in file names."""
        return f"{self.toy}-{self.method}" + (f"-{self.data}" if self.data != DATA else "")

    @property
    def source(self) -> Cell | None:
        """The cell whose network it needs."""
        source = METHODS[self.method].source
        return Cell(self.toy, source, self.data) if source else None


@dataclass(frozen=True)
class Study:
    """Where results lie, and what every cell shares."""

    out: Path
    seeds: int = 1
    budget: Budget = field(default_factory=Budget)

    @property
    def folder(self) -> Path:
        """Of this budget and number of seeds: others are not mixed with them."""
        return self.out / f"steps{self.budget.steps}-seeds{self.seeds}"

    def record(self, cell: Cell) -> Path:
        """The file of a cell's results."""
        return self.folder / "cells" / f"{cell.name}.json"

    def weights(self, cell: Cell) -> Path:
        """The file of its networks."""
        return self.folder / "nets" / f"{cell.name}.safetensors"

    def done(self, cell: Cell) -> bool:
        """Whether it has been computed."""
        return self.record(cell).exists()

    # Networks.

    def problem(self, cell: Cell) -> Problem:
        """What its method is given."""
        data = Data.draw(SETS[cell.toy], cell.data, self.seeds)
        return Problem(data, lambda name: self.network(Cell(cell.toy, name, cell.data)))

    def network(self, cell: Cell) -> StackedMLP:
        """A trained network, all its seeds."""
        method = METHODS[cell.method]
        problem = self.problem(cell)
        learner = method.build(problem)
        if learner.loss is None:
            assert cell.source is not None
            return self.network(cell.source)
        net = self._blank(SETS[cell.toy], learner)
        net.load_state_dict(load_file(self.weights(cell)))
        return net.requires_grad_(False)

    def _blank(self, toy: ToySet, learner: Learner) -> StackedMLP:
        return StackedMLP(
            seeds=self.seeds,
            inputs=learner.inputs,
            outputs=learner.outputs,
            times=learner.times,
            # A token may also be the mask.
            tags=learner.tokens + 1 if learner.tokens else toy.modes if toy.tagged else 0,
            width=self.budget.width,
            depth=self.budget.depth,
            generator=torch.Generator().manual_seed(0),
        )

    # Cells.

    def compute(self, cell: Cell) -> Path:
        """Train and measure a cell, and write its files."""
        torch.set_num_threads(1)
        toy, method = SETS[cell.toy], METHODS[cell.method]
        problem = self.problem(cell)
        learner = method.build(problem)
        began = time.process_time()
        if learner.loss is None:
            assert cell.source is not None
            net = self.network(cell.source)
        else:
            net = self._blank(toy, learner)
            if method.warm:
                assert cell.source is not None
                net.begin_as(self.network(cell.source))
            net = train(net, learner.loss, problem.data, self.budget, modes=learner.tokens > 0)
            with replacing(self.weights(cell)) as temporary:
                save_file({name: value.contiguous() for name, value in net.state_dict().items()}, temporary)
        seconds = (time.process_time() - began) / self.seeds
        measured = [self._measure(toy, method, learner, net.seed(s), s) for s in range(self.seeds)]
        write_json(
            self.record(cell),
            {
                **asdict(cell),
                "family": method.family,
                "commit": commit(),
                "train_s": round(seconds, 2) if learner.loss is not None else 0.0,
                "seeds": measured,
            },
        )
        return self.record(cell)

    def _measure(
        self, toy: ToySet, method: Method, learner: Learner, net: StackedMLP, seed: int
    ) -> dict[str, Any]:
        data, mode = fresh(toy, seed)
        cond = toy.condition(mode)
        tags = mode if toy.tagged else None
        result: dict[str, Any] = {"nfe": {}}

        def draw(nfe: int, path: bool = False) -> Tensor:
            # The same noise at every number of evaluations.
            return learner.draw(net, cond, POINTS, nfe, torch.Generator().manual_seed(9000 + seed), path)

        with torch.no_grad():
            for nfe in method.nfes:
                began = time.perf_counter()
                x = draw(nfe)
                milliseconds = 1000 * (time.perf_counter() - began)
                result["nfe"][str(nfe)] = {
                    **_rounded(quality(toy, x, data, tags)),
                    "sample_ms": round(milliseconds, 2),
                }
            if learner.curves:
                result |= _rounded(straightness(toy.space, draw(CURVE_STEPS, path=True)))
        if learner.extra is not None:
            result |= _rounded(learner.extra(net, 9000 + seed))
        if learner.log_prob is not None and not toy.tagged:
            x, _ = fresh(toy, 500 + seed, LIKELIHOOD_POINTS)
            result |= _rounded(likelihood(toy, learner.log_prob(net, x), x))
        return result


def floors(study: Study, toy: ToySet) -> dict[str, float]:
    """Fresh data against other fresh data: what a perfect method would show, up to chance."""
    path = study.folder / "floors" / f"{toy.name}.json"
    if not path.exists():
        values = [
            quality(toy, fresh(toy, 100 * (i + 1) + seed)[0], fresh(toy, seed)[0])
            for seed in range(study.seeds)
            for i in range(2)
        ]
        mean = {key: sum(value[key] for value in values) / len(values) for key in values[0]}
        write_json(path, _rounded(mean) | {"entropy": toy.entropy()})
    return read_json(path)


def select(sets: Iterable[str], methods: Iterable[str]) -> list[Cell]:
    """The cells of some sets and methods, with the cells they need; sources first."""
    return _with_sources(
        Cell(toy, method) for toy in sets for method in methods if toy in METHODS[method].sets
    )


def small_data(sets: Iterable[str], methods: Iterable[str]) -> list[Cell]:
    """Cells with few training points, of those sets and methods that were chosen; sources first."""
    chosen = (Cell(toy, method, n) for toy in SMALL_SETS for method in SMALL_METHODS for n in SMALL_DATA)
    return _with_sources(cell for cell in chosen if cell.toy in sets and cell.method in methods)


def _with_sources(wanted: Iterable[Cell]) -> list[Cell]:
    cells: dict[Cell, None] = {}

    def add(cell: Cell) -> None:
        if cell.source is not None:
            add(cell.source)
        cells.setdefault(cell)

    for cell in wanted:
        add(cell)
    return list(cells)


def run(study: Study, cells: list[Cell], workers: int = 2) -> None:
    """Compute what is missing, several cells at a time, each after its source."""
    waiting = [cell for cell in cells if not study.done(cell)]
    with bar(total=len(cells), initial=len(cells) - len(waiting), unit="cell") as progress:
        if workers <= 1 or len(waiting) <= 1:
            for cell in waiting:  # sources come first
                progress.set_postfix_str(cell.name, refresh=False)
                study.compute(cell)
                progress.update()
            return
        with processes(workers, _begin) as pool:
            running: dict[Future[Path], Cell] = {}
            while waiting or running:
                for cell in list(_ready(study, waiting, running.values())):
                    if len(running) >= workers:
                        break
                    waiting.remove(cell)
                    running[pool.submit(study.compute, cell)] = cell
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    progress.set_postfix_str(running.pop(future).name, refresh=False)
                    future.result()
                    progress.update()


def _ready(study: Study, waiting: list[Cell], running: Iterable[Cell]) -> Iterator[Cell]:
    busy = set(running)
    for cell in waiting:
        if cell.source is None or (study.done(cell.source) and cell.source not in busy):
            yield cell


def _begin() -> None:
    torch.set_num_threads(1)


def records(study: Study) -> list[dict[str, Any]]:
    """All results of a study, in the order of the registry."""
    found = [read_json(path) for path in sorted((study.folder / "cells").glob("*.json"))]
    order = {name: i for i, name in enumerate([*SETS, *METHODS])}
    known = [r for r in found if r["method"] in METHODS and r["toy"] in METHODS[r["method"]].sets]
    return sorted(known, key=lambda r: (order[r["toy"]], order[r["method"]], -r["data"]))


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.5g}") for key, value in values.items()}
