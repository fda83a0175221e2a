"""docs/tasks.md is what its script writes from the datasheets and the measured figures of today."""

from __future__ import annotations

import importlib.util
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages() -> Any:
    spec = importlib.util.spec_from_file_location("task_pages", ROOT / "scripts/task_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(pages: Any):
    """After a change of a datasheet or of a result: python scripts/task_pages.py."""
    written = pages.PAGE.read_text(encoding="utf-8")
    assert written == pages.page(), "run: python scripts/task_pages.py"


def test_every_task_has_its_rows_and_its_datasheet(pages: Any):
    text = pages.PAGE.read_text(encoding="utf-8")
    for task in pages.TASKS:
        name = pages.short(task)
        assert f"\n### {name}\n\n`{task}`\n" in text
        assert f"| [{name}](#{name.lower()}) |" in text
        assert f"\n| {name} |" in text  # measured, or said not to be
    assert not re.search(r"\{[a-z_]+\}", text)


def test_every_row_of_a_table_has_as_many_cells_as_its_head(pages: Any):
    lines = pages.PAGE.read_text(encoding="utf-8").splitlines()
    for before, line in pairwise(lines):
        if before.startswith("| ") and line.startswith("| "):
            assert before.count(" | ") == line.count(" | "), line


def test_a_missed_goal_is_bold_and_what_is_not_measured_says_so(pages: Any, tmp_path: Path, monkeypatch: Any):
    import json

    record = dict.fromkeys(["share_of_physics", "times_real_time", "reset_ms_median", "reset_ms_p95"], 7.25)
    record |= dict.fromkeys(["observe_ms", "cpu_minutes_per_1000"], 7.25)
    content = {
        "goals": {"reset_ms_median": "<= 5"},
        "hardware": "a computer",
        "versions": {"mujoco": "3"},
        "command": "geoflow bench env",
        "records": [
            {
                "task": "geoflow/Peg-v0",
                "robot": "free",
                "level": 1,
                "missed": ["reset_ms_median"],
                "frame_ms": None,
            }
            | record
        ],
    }
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    assert pages.cost().startswith("Not measured yet: `geoflow bench env")
    assert "| Peg | not measured yet |" in pages.success(["Peg"])
    (tmp_path / "bench_env.json").write_text(json.dumps(content))
    row = pages.cost().splitlines()[-1]
    assert row == "| Peg | free | 725 | 7 | **7.2** | 7 | 7.250 | - | 7.2 |"
    assert "reset [ms] (<= 5.0)" in pages.cost()


def test_the_picture_is_there_and_small(pages: Any):
    from PIL import Image

    assert f"](images/{pages.PICTURE.name})" in pages.PAGE.read_text(encoding="utf-8")
    assert pages.PICTURE.stat().st_size < 300_000
    with Image.open(pages.PICTURE) as picture:
        assert picture.width == 2 * pages.MARGIN + 3 * pages.WIDTH + 2 * pages.GAP
