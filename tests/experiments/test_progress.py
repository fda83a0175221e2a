"""Bars: a log gets a line now and then, a terminal a bar that moves."""

import io
import sys

import pytest

from geoflow.experiments import progress
from geoflow.experiments.progress import bar


class Terminal(io.StringIO):
    """A standard error that somebody looks at, or not."""

    def __init__(self, looked_at: bool) -> None:
        super().__init__()
        self._looked_at = looked_at

    def isatty(self) -> bool:
        return self._looked_at


@pytest.fixture
def drawn(monkeypatch):
    """What a bar of 2000 quick steps writes."""

    def draw(looked_at: bool) -> str:
        monkeypatch.setattr(sys, "stderr", Terminal(looked_at))
        with bar(total=2_000, desc="train", unit="step") as steps:
            for i in range(2_000):
                steps.set_postfix(loss=str(i), refresh=False)
                steps.update()
        return sys.stderr.getvalue()

    return draw


def test_a_log_gets_the_first_and_the_last_line_of_a_short_job(drawn):
    first, last = drawn(looked_at=False).splitlines()
    assert "0/2000" in first
    assert "2000/2000" in last
    assert "loss=1999" in last


def test_a_log_of_a_longer_job_gets_whole_lines(drawn, monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    text = drawn(looked_at=False)
    lines = text.splitlines()
    assert len(lines) > 100
    assert "\r" not in text
    assert all(line.startswith("train: ") and "/2000" in line for line in lines)


def test_a_terminal_gets_one_line_that_is_written_over(drawn):
    text = drawn(looked_at=True)
    assert text.count("\n") == 1
    assert text.count("\r") >= 2


def test_it_counts_what_it_is_given(capsys):
    assert list(bar([1, 2, 3], desc="film", unit="episode")) == [1, 2, 3]
    assert "3/3" in capsys.readouterr().err
