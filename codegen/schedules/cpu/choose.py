"""Which schedule a stage gets, by the structure of its expression. The last ones take everything, so nothing stays unscheduled."""

from __future__ import annotations

from typing import Any

from codegen.schedules.context import Epilogue, Offer
from codegen.schedules.cpu import injective, reduction
from codegen.schedules.cpu.context import Context
from codegen.schedules.cpu.contraction.emit import Emission
from codegen.schedules.cpu.contraction.geometry import candidates
from codegen.schedules.sums_of_products import Contraction, classify


def schedule(context: Context, epilogue: Epilogue) -> tuple[str, Any]:
    """The name of the schedule and the statement that computes the stage."""
    scope = epilogue.stage.scope
    if scope.reducer is None:
        return "injective", injective.schedule(context, epilogue)
    contraction = classify(context, scope)
    if contraction is not None and _worthwhile(contraction):
        found = candidates(context, epilogue, contraction)
        if found:
            context.offers.append(Offer("contraction", contraction, found))
            chosen = found[min(int(context.variant.get("contraction", 0)), len(found) - 1)]
            statement = Emission(context, epilogue, contraction, chosen).statement()
            return f"contraction {chosen.label()}", statement
    return "reduction", reduction.schedule(context, epilogue)


def _worthwhile(contraction: Contraction) -> bool:
    """Whether packing and register tiles pay: some reuse of both operands, or a constant that can be packed beforehand."""
    first, second = contraction.sides
    if contraction.depth < 2:
        return False
    if min(first.extent, second.extent) >= 2:
        return first.extent * second.extent * contraction.depth >= 512
    wide = first if first.extent > 1 else second
    return wide.constant and wide.extent >= 16 and contraction.depth >= 8
