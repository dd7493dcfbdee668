"""What arguments must be, asked before any work."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from tensoropt.budget import parse_budget
from tensoropt.errors import UsageError


def require_target(target: str, known: Collection[str] = ("cpu", "opencl")) -> None:
    if target not in known:
        raise UsageError(f"the target {target!r} is not supported; `tensoropt targets` lists those that are")


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
