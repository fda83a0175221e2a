"""The one table of the study, as markdown and as a page."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from geoflow.data.atomic import write_text

from .claims import Table
from .methods import METHODS, NFES
from .sets import SETS

HEADER = (
    "method",
    *(f"W1 at {nfe}" for nfe in NFES),
    "MMD^2 x 1000 at 50",
    "modes",
    "mode TV",
    "curvature",
    "NLL",
    "KL",
    "train s",
    "ms at 10",
)


def rows(table: Table, toy: str) -> Iterator[list[str]]:
    """A row a method: cells as text."""
    yield [
        "*data against data*",
        *[_text(table.floors[toy]["w1"])] * len(NFES),
        *[""] * (len(HEADER) - 1 - len(NFES)),
    ]
    for method in METHODS:
        record = next(
            (r for r in table.records if (r["toy"], r["method"], r["data"]) == (toy, method, table.full)),
            None,
        )
        if record is None:
            continue
        last = max(int(nfe) for nfe in record["seeds"][0]["nfe"])
        timed = min((int(nfe) for nfe in record["seeds"][0]["nfe"]), key=lambda nfe: abs(nfe - 10))
        yield [
            method,
            *(_text(table.mean(toy, method, "w1", nfe)) for nfe in NFES),
            _text(1000 * table.mean(toy, method, "mmd2", last), 2),
            _text(table.mean(toy, method, "coverage", last), 2),
            _text(table.mean(toy, method, "variation", last), 3),
            _text(table.mean(toy, method, "curvature")),
            _text(table.mean(toy, method, "nll"), 2),
            _text(table.mean(toy, method, "kl")),
            _text(record["train_s"], 1) if record["train_s"] else "",
            _text(table.mean(toy, method, "sample_ms", timed), 1),
        ]


def markdown(table: Table) -> str:
    """All sets, one after the other."""
    parts = []
    for toy in _sets(table):
        lines = [
            f"### {toy}: {SETS[toy].about}, {SETS[toy].space}",
            "",
            _line(HEADER),
            _line(["---"] * len(HEADER)),
        ]
        parts.append("\n".join([*lines, *(_line(row) for row in rows(table, toy))]))
    return "\n\n".join(parts) + "\n"


def page(table: Table, note: str, path: Path) -> Path:
    """The same as HTML, distances shaded from the best (green) to the worst of a column."""
    parts = [_STYLE, "<h1>Flows on small distributions</h1>", f"<p>{html.escape(note)}</p>"]
    for toy in _sets(table):
        cells = list(rows(table, toy))
        parts.append(
            f"<h2>{toy}</h2><p>{html.escape(SETS[toy].about)}, {html.escape(str(SETS[toy].space))}</p><table>"
        )
        parts.append("<tr>" + "".join(f"<th>{name}</th>" for name in HEADER) + "</tr>")
        shades = [_shades([row[i] for row in cells[1:]]) for i in range(1, 1 + len(NFES))]
        for k, row in enumerate(cells):
            cols = []
            for i, cell in enumerate(row):
                shade = shades[i - 1][k - 1] if k and 1 <= i <= len(NFES) else ""
                cols.append(f"<td{shade}>{html.escape(cell.strip('*'))}</td>")
            parts.append(f"<tr{'' if k else ' class=floor'}>" + "".join(cols) + "</tr>")
        parts.append("</table>")
    write_text(path, "\n".join(parts) + "\n")
    return path


def _sets(table: Table) -> list[str]:
    return [toy for toy in SETS if any(r["toy"] == toy for r in table.records)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(value: float, digits: int = 3) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _shades(column: list[str]) -> list[str]:
    values = [math.log(max(float(cell), 1e-6)) if cell else math.nan for cell in column]
    known = [value for value in values if not math.isnan(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    styles = []
    for value in values:
        share = 1 - (value - low) / max(high - low, 1e-9)
        styles.append(
            "" if math.isnan(value) else f' style="background: rgba(0, 140, 90, {0.45 * share**2:.2f})"'
        )
    return styles


_STYLE = """<!doctype html><meta charset="utf-8"><title>Flows on small distributions</title>
<style>
body { font: 14px/1.45 system-ui, sans-serif; color: #1d2530; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 2px 9px; text-align: right; border-bottom: 1px solid #e4e8ee; white-space: nowrap; }
th { font-weight: 600; color: #5f6b7a; } th:first-child, td:first-child { text-align: left; }
.floor { color: #5f6b7a; font-style: italic; } h2 { margin: 2rem 0 0; }
</style>"""
