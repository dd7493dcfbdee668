"""The progress display: one line on a terminal, nothing anywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensoropt.pass_manager import Progress

_LEAST_SHARE = 0.02
_LEAST_SECONDS = 1.0
"""Before so much is done, what is left is a guess."""


class Remaining:
    """The time that a stage will still take if it goes on as it went."""

    def __init__(self) -> None:
        self._stage = ""
        self._started = 0.0

    def of(self, stage: str, share: float, now: float) -> str:
        """Text for people, empty where nothing can be said yet; ``now`` is in seconds on any clock."""
        if stage != self._stage:
            self._stage, self._started = stage, now
        elapsed = now - self._started
        if share < _LEAST_SHARE or elapsed < _LEAST_SECONDS or share >= 1:
            return ""
        seconds = round(elapsed * (1 - share) / share)
        return f"{seconds // 60}:{seconds % 60:02d} left"


@contextmanager
def progress_display() -> Iterator[Progress]:
    """A callback that shows the stage, its share done, time so far and left, and the current item on standard error."""
    if not sys.stderr.isatty():
        yield lambda stage, share, detail: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[detail]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("import", total=1.0, detail="", left="")
        remaining = Remaining()

        def show(stage: str, share: float, detail: str) -> None:
            left = remaining.of(stage, share, time.monotonic())
            bars.update(task, description=stage, completed=share, detail=detail[:48], left=left)

        yield show


def tell_of_interrupt() -> None:
    """What the first interrupt during tuning is answered with; written at once, as it may come amid another line."""
    os.write(2, b"tensoropt: interrupted; tuning ends with the best so far (a second interrupt ends the run)\n")
