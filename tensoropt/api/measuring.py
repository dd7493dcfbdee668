"""Tuning the kernels of a program of kernels, for whatever target runs here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tensoropt.interrupts import first_interrupt
from tensoropt.ir.program import Program
from tensoropt.pass_manager import Progress
from tensoropt.quiet import Quiet

if TYPE_CHECKING:
    from codegen.targets.parsing import Target
    from codegen.tune.database import Database
    from codegen.tune.pool import Request
    from codegen.tune.tuned import Tuning


def tuned(
    program: Program,
    target: Target,
    database: Database,
    request: Request,
    quiet: Quiet,
    progress: Progress,
    on_interrupt: Callable[[], None] | None,
) -> Tuning:
    """The fastest known variants of the program's kernels, measured in the order of what was learned."""
    from codegen.tune.learned.ordering import LearnedOrder
    from codegen.tune.metaschedule import looked_further
    from codegen.tune.records import Records
    from codegen.tune.space import TEMPLATES, variants
    from codegen.tune.tuning import tune_program
    from passes.pipeline import plan

    searched = target.kind == "cpu" and request.trials > TEMPLATES
    order = LearnedOrder(database)
    placement, records = (
        plan(program),
        Records(database, target),
    )  # an interrupt here ends the run: nothing is tuned yet
    with first_interrupt(on_interrupt) as stop:
        tuning = tune_program(
            program,
            placement,
            target,
            records,
            request,
            quiet=quiet,
            progress=lambda share, detail: progress("tune", share, detail),
            stop=stop,
            space=partial(variants, order=order),
            search=looked_further if searched else None,
        )
    tuning.warnings += order.warnings
    return tuning
