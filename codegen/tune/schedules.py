"""A short measured search over the schedules of contractions, for each kernel of a program once."""

from __future__ import annotations

from collections.abc import Callable

from codegen.build import numbered
from codegen.lower.kernel import lower
from codegen.tune.worker import MeasuredCost, Variant
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Compute, Program
from tensoropt.plan_types import Plan

TRIALS = {"off": 1, "fast": 6, "full": 24}
"""How many schedules of a kernel are timed."""


def search(
    program: Program,
    plan: Plan,
    cost_model: MeasuredCost,
    tune: str = "fast",
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Variant]:
    """The fastest schedule of every contraction, by the name of its output, for ``compile_program``'s ``variants``.

    Results are kept on disk, so a search that was interrupted goes on where it stopped.
    """
    report = progress or (lambda share, detail: None)
    variants: dict[str, Variant] = {}
    found: dict[object, int] = {}
    if TRIALS[tune] == 1:
        return variants
    for number, statement in enumerate(program.statements):
        if (
            not isinstance(statement, Compute)
            or statement.output.name in plan.aliases
            or not statement.output.type.elements
        ):
            continue
        report(number / len(program.statements), statement.output.name)
        expression, actual = numbered(statement.expression)
        constants = frozenset(name for name, tensor in actual.items() if tensor.name in program.constants)
        key = (expression, constants)
        if key not in found:
            kernel = Compute(Tensor("out", statement.output.type), expression)
            found[key] = _fastest(kernel, constants, cost_model, TRIALS[tune])
        if found[key]:
            variants[statement.output.name] = {"contraction": found[key]}
    return variants


def _fastest(kernel: Compute, constants: frozenset[str], cost_model: MeasuredCost, trials: int) -> int:
    lowered = lower(kernel.output, kernel.expression, cost_model.target, constants)
    if not any(name.startswith("contraction") for name in lowered.schedules):
        return 0
    return cost_model.fastest_variant(kernel, constants, [{"contraction": number} for number in range(trials)])
