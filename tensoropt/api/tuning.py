"""``tune``: the kernels of a model or of an artefact folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensoropt.api.compiling import compiled
from tensoropt.api.elsewhere import devices_as_json, fleet_for, tune_elsewhere, warnings_of
from tensoropt.api.optimizing import rewritten, tuned
from tensoropt.api.requirements import require_limits, require_tuned_here
from tensoropt.pass_manager import Progress, silent
from tensoropt.quiet import Quiet


def tune(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    rpc: str | None = None,
    key: str | None = None,
    trials: int | None = None,
    time_limit: float | None = None,
    db: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress = silent,
    on_interrupt: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Tune the kernels of a model, or of an artefact folder, which is then replaced in one step by a faster one.

    What is measured goes to the tuning database (``db``, or the user's own), so that the next ``optimize`` of the model is quick
    and uses it. ``trials`` is how many variants of a kernel are measured at the most. Returns what is known of each kernel.
    NoPlanError where an artefact's memory budget would not hold what the faster kernels need.

    With ``rpc`` (HOST:PORT of TVM's tracker) and ``key``, kernels of a model are measured on all devices under that key, whose
    machines run ``codegen.tune.remote.server``, and stored for these; ``target`` may then be left out. DeviceError where no device
    is left before all is measured.

    ``on_interrupt`` as in ``optimize``.
    """
    from codegen.targets.cpu import host_target
    from codegen.tune.artefacts import replace_artefact, stored_target
    from codegen.tune.database import Database
    from codegen.tune.pool import Request
    from codegen.tune.tuning import TRIALS
    from tensoropt.frontend import load_program
    from tensoropt.stored import stored_program

    source, quiet, replaced = Path(path), Quiet(), None
    require_limits(threads, 0, time_limit)
    fleet = None
    if rpc is None and key is None:
        require_tuned_here(target or "cpu")
    else:
        fleet = fleet_for(source, rpc, key, target, threads)
    deadline = None if time_limit is None else time.monotonic() + time_limit
    request = Request(trials or TRIALS["full"], deadline, thorough=True)
    with Database(db) as database:
        if fleet is not None:
            tuning = tune_elsewhere(source, fleet, database, request, shapes, time_limit, progress, on_interrupt)
        else:
            if source.is_dir():
                cpu, program = stored_target(source, threads), stored_program(source)
            else:
                progress("import", 0.0, "")
                cpu, imported = host_target(threads), load_program(source, dict(shapes or {}))
                context, program = rewritten(imported, cpu, database, frozenset(), "fast", 0, time_limit, progress)
                quiet = context.quiet
            tuning = tuned(program, cpu, database, request, quiet, progress, on_interrupt)
            if source.is_dir():
                progress("compile", 0.0, "")
                replaced = replace_artefact(source, compiled(program, cpu, tuning.variants), tuning).as_json()
        progress("done", 1.0, "")
        return {
            "path": str(path),
            **tuning.as_json(),
            "artefact": replaced,
            "database": {"path": str(database.path), "measurements": database.size()[0]},
            "devices": None if fleet is None else devices_as_json(fleet),
            "warnings": [*database.warnings, *([] if fleet is None else warnings_of(fleet, tuning))],
        }
