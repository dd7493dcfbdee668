"""``tune``: the kernels of a model or of an artefact folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoropt.api.compiling import compiled, compiled_for_device
from tensoropt.api.device import rewritten_for_device
from tensoropt.api.elsewhere import fleet_for, tune_elsewhere
from tensoropt.api.measuring import libraries_here, tuned
from tensoropt.api.optimizing import rewritten
from tensoropt.api.requirements import (
    require_libraries,
    require_limits,
    require_model_for_tf32,
    require_tuned_here,
)
from tensoropt.pass_manager import Progress, silent
from tensoropt.quiet import Quiet

if TYPE_CHECKING:
    from codegen.built import Built


def tune(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    tf32: bool = False,
    rpc: str | None = None,
    key: str | None = None,
    trials: int | None = None,
    time_limit: float | None = None,
    db: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    libraries: str | None = None,
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

    ``tf32`` (of a model), ``libraries`` and ``on_interrupt`` as in ``optimize``; a folder's kernels may call libraries where it
    was made so.
    """
    from codegen.targets.cpu import CpuTarget, host_target
    from codegen.tune.artefacts import replace_artefact, stored_libraries, stored_target
    from codegen.tune.database import Database
    from codegen.tune.pool import Request
    from codegen.tune.records import Records
    from codegen.tune.tuning import TRIALS
    from tensoropt.frontend import load_program
    from tensoropt.stored import stored_program

    require_limits(threads, 0, time_limit)
    if libraries is not None:
        require_libraries(libraries)
    require_model_for_tf32(Path(path), tf32)
    deadline = None if time_limit is None else time.monotonic() + time_limit
    request = Request(trials or TRIALS["full"], deadline, thorough=True)
    if rpc is not None or key is not None:
        fleet = fleet_for(Path(path), rpc, key, target, threads, tf32)
        return tune_elsewhere(
            Path(path), fleet, db, request, shapes, time_limit, libraries or "auto", progress, on_interrupt
        )
    source, target = Path(path), target or "cpu"
    gpu = require_tuned_here(target, threads, tf32)
    tuned_for = stored_target(source, target, threads) if source.is_dir() else gpu or host_target(threads)
    quiet, replaced = Quiet(), None
    with Database(db) as database:
        if source.is_dir():
            program = stored_program(source)
            libraries = libraries or stored_libraries(source)
        else:
            progress("import", 0.0, "")
            imported = load_program(source, dict(shapes or {}))
            if isinstance(tuned_for, CpuTarget):
                context, program = rewritten(
                    imported, tuned_for, database, frozenset(), "fast", 0, time_limit, progress
                )
                quiet = context.quiet
            else:
                _, program = rewritten_for_device(imported, tuned_for, frozenset(), "fast", 0, time_limit, progress)
        known = libraries_here(tuned_for, libraries or "auto")
        records = Records(database, tuned_for)
        tuning = tuned(program, records, request, quiet, progress, on_interrupt, libraries=known)
        if source.is_dir():
            progress("compile", 0.0, "")
            built: Built = (
                compiled(program, tuned_for, tuning.variants)
                if isinstance(tuned_for, CpuTarget)
                else compiled_for_device(program, tuned_for, variants=tuning.variants)
            )
            replaced = replace_artefact(source, built, tuning).as_json()
        progress("done", 1.0, "")
        return {
            "path": str(path),
            **tuning.as_json(),
            "artefact": replaced,
            "database": {"path": str(database.path), "measurements": database.size()[0]},
            "devices": None,
            "warnings": [*database.warnings, *tuning.warnings],
        }
