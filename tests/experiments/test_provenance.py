"""A result says which commit, versions and machine it comes from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import geoflow
from geoflow.experiments import provenance

ROOT = Path(__file__).parents[2]


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def commit_of(folder: Path) -> str:
    """What `commit` says in a copy of the file that lies in ``folder``."""
    code = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('copy', sys.argv[1]);"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); print(module.commit())"
    )
    command = [sys.executable, "-c", code, str(folder / "provenance.py")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_is_that_of_the_repository_and_changes_are_marked(tmp_path):
    shutil.copy(provenance.__file__, tmp_path / "provenance.py")
    assert commit_of(tmp_path) == ""  # no repository
    git(tmp_path, "init", "-q")
    (tmp_path / "other").write_text("1")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-q", "-m", "other")
    assert commit_of(tmp_path) == ""  # installed inside somebody else's repository
    git(tmp_path, "add", "provenance.py")
    git(tmp_path, "commit", "-q", "-m", "ours")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    assert commit_of(tmp_path) == head[:12]
    (tmp_path / "other").write_text("2")
    assert commit_of(tmp_path) == head[:12] + "+"


def test_versions_are_those_that_are_installed():
    found = provenance.versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {name: found[name] for name in ("torch", "numpy")} == {
        name: version(name) for name in ("torch", "numpy")
    }
    assert found["geoflow"] == geoflow.__version__


def test_it_is_written_beside_a_file_and_into_a_folder(tmp_path):
    (tmp_path / "demos.h5").write_text("")
    for result, expected in (
        (tmp_path / "demos.h5", tmp_path / "demos.h5.json"),
        (tmp_path, tmp_path / "provenance.json"),
    ):
        assert provenance.write_provenance(result, {"seed": 3}) == expected
        found = json.loads(expected.read_text())
        assert found["settings"] == {"seed": 3}
        assert {"command", "time", "hardware", "commit", "versions"} <= found.keys()
