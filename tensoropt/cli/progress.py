"""The progress display: one line on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensoropt.pass_manager import Progress


@contextmanager
def progress_display() -> Iterator[Progress]:
    """A callback that shows the stage, its share done, elapsed time and the current item on standard error."""
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
        TextColumn("{task.fields[detail]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("import", total=1.0, detail="")

        def show(stage: str, share: float, detail: str) -> None:
            bars.update(task, description=stage, completed=share, detail=detail[:48])

        yield show
