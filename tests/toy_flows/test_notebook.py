"""docs/toy_flows.ipynb runs from top to bottom, with a few optimiser steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "toy_flows.ipynb"


def cells(kind):
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(cells("code")), encoding="utf-8")
    environment = {**os.environ, "TOY_STEPS": "5", "TOY_PICTURES": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT / "docs",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "data against data" in done.stdout
    assert (tmp_path / "notebook_cone.png").stat().st_size > 10_000


def test_the_notebook_says_what_it_does():
    assert any("scripts/toy_flows.py" in text for text in cells("markdown"))
    assert NOTEBOOK.stat().st_size < 300_000
