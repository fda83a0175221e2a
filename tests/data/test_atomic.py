"""A file is the old one or the new one, never something between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from geoflow.data.atomic import replacing, write_text


def test_a_file_appears_with_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    write_text(path, "ü\n")
    assert path.read_bytes() == "ü\n".encode()
    assert os.listdir(path.parent) == ["x.txt"]


def test_a_file_is_as_open_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "x", "")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "x"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    code = (
        "import os, signal, sys; from geoflow.data.atomic import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
