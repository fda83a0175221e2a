"""Progress bars: lively on a terminal; elsewhere, as under nohup or in CI, one line every 10 s at most."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 10.0
"""Between two lines where standard error is no terminal."""


def bar(*args: Any, **options: Any) -> tqdm:
    """``tqdm(*args, **options)``, refreshed as often as somebody looks.

    ``set_postfix`` draws at once unless it is told ``refresh=False``: callers say so, and the next due refresh
    shows it.
    """
    if sys.stderr.isatty():
        return tqdm(*args, dynamic_ncols=True, **options)
    return _Lines(*args, mininterval=LOG_SECONDS, maxinterval=LOG_SECONDS, ncols=110, **options)


class _Lines(tqdm):
    """A bar for a log: each refresh is a line of its own instead of overwriting the last one."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """What writes a refresh; closing the bar ends its last line."""
        before = ""

        def show(text: str) -> None:
            nonlocal before
            if text and text != before:
                file.write("\n" + text if before else text)
                file.flush()
                before = text

        return show
