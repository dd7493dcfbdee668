"""``tune`` for devices of other machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoropt.api.device import rewritten_for_device
from tensoropt.api.measuring import tuned
from tensoropt.api.optimizing import rewritten
from tensoropt.errors import UsageError
from tensoropt.isolated import Lost
from tensoropt.pass_manager import Progress
from tensoropt.quiet import Quiet

if TYPE_CHECKING:
    from codegen.tune.pool import Request
    from codegen.tune.records import Records
    from codegen.tune.remote.fleet import Fleet
    from tensoropt.frontend import LoadedModel
    from tensoropt.ir.program import Program

_GIVEN_UP = "{}: not measured, since each device was lost that measured it; it may be what they die of"


def fleet_for(
    path: Path, rpc: str | None, key: str | None, target: str | None, threads: int | None, tf32: bool
) -> Fleet:
    """The devices under the key.

    UsageError for options that do not go together, and where there are no devices, or not such as ``target`` and ``tf32`` say.
    """
    from codegen.targets.parsing import with_tf32
    from codegen.tune.remote.fleet import Fleet
    from codegen.tune.remote.tracker import Address

    if not rpc or not key:
        given, missing = ("--rpc", "--key") if rpc else ("--key", "--rpc")
        raise UsageError(f"{given} needs {missing}: HOST:PORT of the tracker, and the key of the devices there")
    if threads is not None:
        raise UsageError("--threads is for this machine; with --rpc, start the devices' servers with it")
    if path.is_dir():
        raise UsageError(f"{path} is an artefact for this machine; with --rpc, name the model that it was made of")
    fleet = Fleet(Address.parse(rpc), key, tf32=tf32)
    kind = fleet.described().target["kind"]
    if target is not None and target != kind:
        raise UsageError(f"the devices under the key {key!r} are of the target {kind}, not {target}")
    if tf32:
        with_tf32(fleet.target)
    return fleet


def tune_elsewhere(
    path: Path,
    fleet: Fleet,
    db: str | os.PathLike[str] | None,
    request: Request,
    shapes: Mapping[str, Sequence[int]] | None,
    time_limit: float | None,
    libraries: str,
    progress: Progress,
    on_interrupt: Callable[[], None] | None,
) -> dict[str, Any]:
    """Tunes a model's kernels on the devices of a fleet; see ``tune``."""
    from codegen.tune.database import Database
    from codegen.tune.records import Records
    from codegen.tune.remote.session import RemoteSession
    from tensoropt.frontend import load_program

    def telling(stage: str, share: float, detail: str) -> None:
        progress(stage, share, f"{fleet.told}: {detail}" if detail else fleet.told)

    found = fleet.description
    with Database(db) as database, closing(fleet):
        records = Records(database, fleet.target, found.device, found.versions)
        progress("import", 0.0, "")
        imported = load_program(path, dict(shapes or {}))
        try:
            program = _rewritten(imported, fleet, records, time_limit, telling)
        except Lost as lost:
            raise fleet.exhausted(f"what was measured is stored in {database.path}") from lost
        # nothing of this machine is timed, so nothing here has to be quiet
        known = found.libraries if libraries == "auto" else {}
        tuning = tuned(program, records, request, Quiet(), telling, on_interrupt, lambda: RemoteSession(fleet), known)
        if tuning.stopped == "devices":
            done = sum(not tuned.missing for tuned in tuning.kernels)
            raise fleet.exhausted(
                f"{done} of {len(tuning.kernels)} kernels are measured, and what was measured is stored in {database.path}"
            )
        progress("done", 1.0, "")
        return {
            "path": str(path),
            **tuning.as_json(),
            "artefact": None,
            "database": {"path": str(database.path), "measurements": database.size()[0]},
            "devices": {"key": fleet.key, "device": found.device, "used": fleet.most_in_use, "lost": fleet.lost},
            "warnings": [
                *database.warnings,
                *tuning.warnings,
                *fleet.warnings,
                *map(_GIVEN_UP.format, tuning.given_up),
            ],
        }


def _rewritten(
    imported: LoadedModel, fleet: Fleet, records: Records, time_limit: float | None, progress: Progress
) -> Program:
    """The program of kernels, as ``optimize`` makes it on a device's machine. Lost where no device is left."""
    from codegen.targets.cpu import CpuTarget
    from codegen.tune.remote.session import RemoteSession

    target = fleet.target
    if isinstance(target, CpuTarget):
        _, program = rewritten(
            imported,
            target,
            records.database,
            frozenset(),
            "fast",
            0,
            time_limit,
            progress,
            RemoteSession(fleet),
            records,
        )
    else:
        _, program = rewritten_for_device(imported, target, frozenset(), "fast", 0, time_limit, progress)
    return program
