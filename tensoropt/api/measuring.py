"""Tuning the kernels of a program of kernels, for whatever target, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tensoropt.interrupts import first_interrupt
from tensoropt.ir.program import Program
from tensoropt.pass_manager import Progress
from tensoropt.quiet import Quiet

if TYPE_CHECKING:
    from codegen.targets.parsing import Target
    from codegen.tune.pool import Request
    from codegen.tune.records import Records
    from codegen.tune.session import Session
    from codegen.tune.tuned import Tuning


_MOST_ELSEWHERE = 32
"""Devices of other machines that are used at the same time."""


def tuned(
    program: Program,
    records: Records,
    request: Request,
    quiet: Quiet,
    progress: Progress,
    on_interrupt: Callable[[], None] | None,
    elsewhere: Callable[[], Session] | None = None,
    libraries: Mapping[str, str] | None = None,
) -> Tuning:
    """The fastest known variants of the program's kernels for the records' target, measured in the order of what was learned.

    ``elsewhere`` makes a session on another machine, where that is what measures. ``libraries`` are those that kernels may call,
    with the versions that are installed where it is measured.
    """
    from codegen.tune.learned.ordering import LearnedOrder
    from codegen.tune.metaschedule import looked_further
    from codegen.tune.remote.searching import SearchElsewhere
    from codegen.tune.space import TEMPLATES, variants
    from codegen.tune.tuning import tune_program
    from passes.pipeline import plan

    search = looked_further if elsewhere is None else SearchElsewhere(elsewhere)
    order = LearnedOrder(records.database)
    placement = plan(program)  # an interrupt here ends the run: nothing is tuned yet
    with first_interrupt(on_interrupt) as stop:
        tuning = tune_program(
            program,
            placement,
            records.target,
            records,
            request,
            quiet=quiet,
            progress=lambda share, detail: progress("tune", share, detail),
            stop=stop,
            space=partial(variants, order=order, libraries=libraries or {}),
            search=search if request.trials > TEMPLATES else None,
            session=elsewhere,
            builders=None if elsewhere is None else _MOST_ELSEWHERE,
            libraries=libraries or {},
        )
    tuning.warnings += order.warnings
    return tuning


def libraries_here(target: Target, libraries: str) -> dict[str, str]:
    """The libraries that kernels for a target may call on this machine, with their versions: none where none are wanted."""
    from codegen.libraries.library import installed

    return installed() if libraries == "auto" and target.kind == "cuda" else {}
