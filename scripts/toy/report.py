"""What a study leaves behind: the table, the figures of the claims, pictures, and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geoflow.data.atomic import write_text
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import provenance

from .claims import Table, claims
from .gallery import gallery
from .sets import SETS
from .solvers import solver_errors
from .study import Cell, Study, floors, records
from .tables import markdown, page


def report(study: Study, weak: Study, long: Study, publish: Path | None = None) -> Path:
    """Write table.md, table.html, results.json and pictures beside the cells, and return the page.

    Args:
        study: The cells.
        weak: The same with a tenth of the steps, where it has cells.
        long: The same with four times the steps, likewise.
        publish: A folder in which results/toy_flows.json and images/toy_*.png are written too.
    """
    found = records(study)
    sets = [name for name in SETS if any(r["toy"] == name for r in found)]
    below = {name: floors(study, SETS[name]) for name in sets}
    solvers = {
        name: solver_errors(study, name)
        for name in sets
        if study.done(Cell(name, "plain")) and SETS[name].space.tangent_dim > 2
    }
    table = Table(found, below)
    others = {
        f"{part.budget.steps} steps": Table(part_records, below)
        for part in (weak, long)
        if (part_records := records(part))
    }
    result = {
        **provenance(),
        "settings": {"seeds": study.seeds, **asdict(study.budget)},
        "floors": below,
        "claims": claims(table, solvers, others),
        "solvers": solvers,
        "other budgets": {
            name: [_condensed(record) for record in other.records] for name, other in others.items()
        },
        "cells": [_condensed(record) for record in found],
    }
    write_text(study.folder / "table.md", markdown(table))
    results = [study.folder / "results.json"]
    images = [study.folder / "images"]
    if publish is not None:
        results.append(publish / "results" / "toy_flows.json")
        images.append(publish / "images")
    for path in results:
        write_text(path, _lines(result))
    budget = study.budget
    note = f"{study.seeds} training seed(s), {budget.steps} steps of batch {budget.batch}; means over seeds."
    with bar(desc="pictures", unit="picture") as progress:
        for _ in gallery(study, found, {k: v["w1"] for k, v in below.items()}, solvers, images[-1]):
            progress.update()
    return page(table, note, study.folder / "table.html")


def _condensed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A cell with one list of seeds a number."""
    seeds: Sequence[Mapping[str, Any]] = record["seeds"]
    head = {key: value for key, value in record.items() if key != "seeds"}
    of_run = {key: [s[key] for s in seeds] for key in seeds[0] if key != "nfe"}
    of_nfe = {
        nfe: {key: [float(f"{s['nfe'][nfe][key]:.4g}") for s in seeds] for key in values}
        for nfe, values in seeds[0]["nfe"].items()
    }
    return {**head, **of_run, "nfe": of_nfe}


def _lines(result: Mapping[str, Any]) -> str:
    """JSON with a line for each cell, which a person can read and a diff can show."""
    head = json.dumps({k: v for k, v in result.items() if k != "cells"}, indent=1, allow_nan=False)
    cells = ",\n".join("  " + json.dumps(cell, allow_nan=False) for cell in result["cells"])
    return head.rstrip()[:-1].rstrip() + ',\n "cells": [\n' + cells + "\n ]\n}\n"
