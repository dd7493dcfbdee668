"""What arguments must be, asked before any work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tensoropt.budget import parse_budget
from tensoropt.errors import UsageError

if TYPE_CHECKING:
    from codegen.targets.gpu import GpuTarget


def require_target(target: str, tf32: bool = False) -> GpuTarget | None:
    """The GPU that ``--target`` stands for, None for the CPU.

    UsageError for what is not known, for a device that is not here, and for ``tf32`` where no tensor cores multiply it.
    """
    if target == "cpu" and not tf32:
        return None  # without the compiler, which its description needs
    from codegen.targets.gpu import GpuTarget
    from codegen.targets.parsing import parse_target, with_tf32

    found = parse_target(target)
    if tf32:
        found = with_tf32(found)
    return found if isinstance(found, GpuTarget) else None


def require_model_for_tf32(path: Path, tf32: bool) -> None:
    """UsageError for ``tf32`` with a folder, whose target has been chosen."""
    if tf32 and path.is_dir():
        raise UsageError(
            f"{path}: --tf32 is for compiling a model, and this folder was compiled with or without it; leave it out"
        )


def require_device_options(
    gpu: GpuTarget,
    target: str,
    *,
    memory_budget: object,
    excluded: frozenset[str],
    threads: int | None,
    db: object,
) -> None:
    """UsageError for an option of ``optimize`` that was given and would do nothing for this target."""
    from codegen.targets.here import why_not_here

    for option, value in (("--memory-budget", memory_budget), ("--threads", threads)):
        if value is not None:
            raise UsageError(f"{option} is for the target cpu, not for {target}")
    why = why_not_here([gpu])[gpu.name]
    if db is not None and why:
        raise UsageError(
            f"--db is for kernels that are measured, and those for {target} cannot be here: {why}; leave it out"
        )
    if gpu.kind != "cuda" and not excluded <= {"all"}:
        raise UsageError(f"nothing is derived for {target}, where --exclude-rule would matter; leave it out")


def require_timed_here(target: str) -> None:
    """UsageError for a target whose kernels cannot be timed on this machine."""
    from codegen.targets.here import why_not_here

    found = require_target(target)
    if found is None:
        return
    why = why_not_here([found])[found.name]
    if why:
        raise UsageError(
            f"--target {target} compiles here and cannot be timed here: {why}; run this on the machine with the GPU, or "
            f"`tensoropt optimize --target {target}` without it"
        )


def require_tuned_here(target: str, threads: int | None, tf32: bool) -> GpuTarget | None:
    """The device whose kernels are tuned, None for the CPU. UsageError where they cannot be measured on this machine."""
    from codegen.targets.here import why_not_here

    found = require_target(target, tf32)
    if found is None:
        return None
    why = why_not_here([found])[found.name]
    if why:
        raise UsageError(
            f"kernels for {target} are tuned where they run, and not here: {why}; run this on the machine with the GPU"
        )
    if threads is not None:
        raise UsageError(f"--threads is for the target cpu, not for {target}")
    return found


def require_libraries(libraries: str) -> None:
    """UsageError for what ``--libraries`` does not take."""
    if libraries not in ("auto", "none"):
        raise UsageError(f"--libraries is auto or none, not {libraries!r}")


def require_limits(threads: int | None, seed: int, time_limit: float | None) -> None:
    most = max(16, 4 * (os.cpu_count() or 1))
    if threads is not None and not 1 <= threads <= most:
        raise UsageError(f"the number of threads is 1 to {most} on this machine, not {threads}")
    if seed < 0:
        raise UsageError(f"a seed is not negative, as {seed} is")
    if time_limit is not None and not time_limit > 0:
        raise UsageError(f"a time limit is a positive number of seconds, not {time_limit}")


def require_planning(
    memory_budget: str | int, memory_model: str, order: str, threads: int | None, seed: int, time_limit: float | None
) -> None:
    """UsageError for what a plan cannot be asked for; before a model's kernels are measured."""
    if memory_model not in ("packed", "live"):
        raise UsageError(f"--memory-model is packed or live, not {memory_model!r}")
    if order not in ("free", "input"):
        raise UsageError(f"--order is free or input, not {order!r}")
    require_budget(memory_budget)
    require_limits(threads, seed, time_limit)


def require_budget(memory_budget: str | int) -> None:
    """UsageError for what is no number of bytes and no share of a peak."""
    if isinstance(memory_budget, str):
        parse_budget(memory_budget, 0)
    elif memory_budget < 0:
        raise UsageError("--memory-budget must not be negative")


def require_replaceable(folder: str | os.PathLike[str], force: bool = False) -> None:
    """UsageError where ``CompiledModel.save`` would refuse the folder; asked before minutes of work and not after."""
    from codegen.artefact import require_replaceable as require

    require(Path(folder).absolute(), force)
