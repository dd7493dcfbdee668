"""``tune`` for devices of other machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoropt.api.optimizing import rewritten
from tensoropt.errors import UsageError
from tensoropt.interrupts import first_interrupt
from tensoropt.isolated import Lost
from tensoropt.pass_manager import Progress

if TYPE_CHECKING:
    from codegen.tune.database import Database
    from codegen.tune.pool import Request
    from codegen.tune.records import Records
    from codegen.tune.remote.fleet import Fleet
    from codegen.tune.tuned import Tuning
    from tensoropt.ir.program import Program

_MOST = 32
"""Devices that are used at the same time."""


def fleet_for(path: Path, rpc: str | None, key: str | None, target: str | None, threads: int | None) -> Fleet:
    """The devices under the key.

    UsageError for options that do not go together, and where there are no devices, or not such as ``target`` says.
    """
    from codegen.tune.remote.fleet import Fleet
    from codegen.tune.remote.tracker import Address

    if not rpc or not key:
        given, missing = ("--rpc", "--key") if rpc else ("--key", "--rpc")
        raise UsageError(f"{given} needs {missing}: HOST:PORT of the tracker, and the key of the devices there")
    if threads is not None:
        raise UsageError("--threads is for this machine; with --rpc, start the devices' servers with it")
    if path.is_dir():
        raise UsageError(f"{path} is an artefact for this machine; with --rpc, name the model that it was made of")
    fleet = Fleet(Address.parse(rpc), key)
    kind = fleet.described().target["kind"]
    if target is not None and target != kind:
        raise UsageError(f"the devices under the key {key!r} are of the target {kind}, not {target}")
    return fleet


def tune_elsewhere(
    path: Path,
    fleet: Fleet,
    database: Database,
    request: Request,
    shapes: Mapping[str, Sequence[int]] | None,
    time_limit: float | None,
    progress: Progress,
    on_interrupt: Callable[[], None] | None,
) -> Tuning:
    """Tunes a model's kernels on the devices of a fleet. DeviceError where no device is left; what was measured is stored."""
    from codegen.tune.records import Records
    from codegen.tune.remote.session import RemoteSession
    from tensoropt.frontend import load_program

    records = Records(database, fleet.target, fleet.description.device)
    progress("import", 0.0, "")
    imported = load_program(path, dict(shapes or {}))

    def telling(stage: str, share: float, detail: str) -> None:
        progress(stage, share, f"{fleet.told}: {detail}" if detail else fleet.told)

    try:
        _, program = rewritten(
            imported, fleet.target, database, frozenset(), "fast", 0, time_limit, telling, RemoteSession(fleet), records
        )
        tuning = _tuned(program, fleet, records, request, telling, on_interrupt)
    except Lost as lost:
        raise fleet.exhausted("what was measured before is stored") from lost
    finally:
        fleet.close()
    if tuning.stopped == "devices":
        done = sum(not tuned.missing for tuned in tuning.kernels)
        raise fleet.exhausted(f"{done} of {len(tuning.kernels)} kernels are measured, and what was measured is stored")
    return tuning


def _tuned(
    program: Program,
    fleet: Fleet,
    records: Records,
    request: Request,
    progress: Progress,
    on_interrupt: Callable[[], None] | None,
) -> Tuning:
    from codegen.tune.remote.session import RemoteSession
    from codegen.tune.tuning import tune_program
    from passes.pipeline import plan

    with first_interrupt(on_interrupt) as stop:
        return tune_program(
            program,
            plan(program),
            fleet.target,
            records,
            request,
            progress=lambda share, detail: progress("tune", share, detail),
            stop=stop,
            session=lambda: RemoteSession(fleet),
            builders=_MOST,
        )


def devices_as_json(fleet: Fleet) -> dict[str, Any]:
    """What ``tune --json`` tells of the devices."""
    return {"key": fleet.key, "device": fleet.description.device, "used": fleet.most_in_use, "lost": fleet.lost}


def warnings_of(fleet: Fleet, tuning: Tuning) -> list[str]:
    """A sentence for each device that was refused, and each kernel that was given up."""
    lost = "{}: not measured, since each device that measured it was lost; it may be what they die of"
    return [*fleet.warnings, *map(lost.format, tuning.given_up)]
