"""What the README and the documents show is executed: Python blocks run, commands parse, make targets exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from geoflow.cli import _command, _parse, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*$")
"""In the line above a block: why it is not executed, such as a GPU or a file that it needs."""


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """Line and code of the fenced blocks of some languages."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start()].count("\n") + 2, match["code"])
        for match in FENCE.finditer(text)
        if match["language"] in languages and not NOT_RUN.search(text[: match.start()])
    ]


def commands(page: Path) -> list[tuple[int, str]]:
    """Line and text of the shell commands of a page, continued lines joined, comments dropped."""
    found = []
    for line, code in blocks(page, "bash", "sh", "console", "shell", ""):
        for i, text in enumerate(code.replace("\\\n", "  ").splitlines()):
            found.append((line + i, text.strip().removeprefix("$ ").split("  #")[0].strip()))
    return found


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with a tiny trained policy where the pages say there is one."""
    monkeypatch.chdir(tmp_path)
    runs = sorted(
        {run for page in PAGES for _, code in blocks(page, "python") for run in re.findall(r"runs/\w+", code)}
    )
    if runs:
        task = ["--env-kwargs", "level=0", "in_hand=true"]
        main(["collect", *task, "--episodes", "2", "--workers", "1", "--out", "demos/tiny.h5"])
    for run in runs:
        tiny = ["--train.steps=2", "--train.batch-size=4", "--policy.width=16", "--policy.depth=1"]
        main(["train", *task, *tiny, "--train.demos=demos/tiny.h5", "--device=cpu", "--out", run])
    return tmp_path


def test_fences_are_found(tmp_path):
    page = tmp_path / "page.md"
    python = "```python\na = 1\n```\n\n<!-- not run: no GPU here -->\n```python\nb\n```\n"
    page.write_text(python + "\n  ```bash\n  $ make x  # why\n  ```\n")
    assert blocks(page, "python") == [(2, "a = 1\n")]
    assert commands(page) == [(11, "make x")]


def test_the_readme_shows_the_library_in_use():
    assert blocks(ROOT / "README.md", "python")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, workplace):
    """In order, in one namespace, as a reader would paste them."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in blocks(page, "python"):
        # Blank lines in front make the line of an error the line of the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for line, text in commands(page):
        if not text.startswith("geoflow ") or "|" in text or "--help" in text:
            continue
        words = shlex.split(text)[1:]
        name, command = _command(words)
        try:
            options = _parse(name, command, words[len(name.split()) :])
        except SystemExit as end:
            raise AssertionError(f"{page}:{line}: {text}") from end
        assert isinstance(options, command), f"{page}:{line}: {text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line, text in commands(page):
        if text.startswith("make "):
            assert set(text.split()[1:]) <= targets, f"{page}:{line}: {text}"
