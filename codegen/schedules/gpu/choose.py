"""Which schedule a stage gets, by the structure of its expression. The last ones take everything, so nothing stays unscheduled."""

from __future__ import annotations

from dataclasses import dataclass, replace

from codegen.libraries.form import Found
from codegen.lower.stages import Stage
from codegen.schedules.context import Offer
from codegen.schedules.gpu import injective, reduction
from codegen.schedules.gpu.context import Body, Context
from codegen.schedules.gpu.contraction.emit import Emission
from codegen.schedules.gpu.contraction.geometry import candidates, innermost, sides
from codegen.schedules.gpu.contraction.parts import in_parts
from codegen.schedules.gpu.contraction.tensor import TensorEmission
from codegen.schedules.gpu.contraction.tiles import TensorTile, Tile
from codegen.schedules.sums_of_products import Contraction, classify
from tensoropt.ir.expression import Scope


@dataclass(frozen=True, slots=True)
class Step:
    """What one launch computes: a stage, or part of one whose ``stands_for`` others read. ``tile`` where it is a contraction,
    ``library`` where a library's operation is called for it instead.
    """

    stage: Stage
    tile: Tile | None = None
    stands_for: Scope | None = None
    library: Found | None = None


def steps(context: Context, stage: Stage) -> list[Step]:
    """The launches of a stage: one, or two where its sums are cut in parts. No buffers are needed yet."""
    contraction = classify(context, stage.scope)
    if contraction is None or not _worthwhile(contraction):
        return [Step(stage)]
    found = candidates(context.epilogue(stage), contraction, context.target)
    if not found or context.chosen("unblocked", (False, True)):
        return [Step(stage)]
    ordered = sides(contraction, innermost(context.epilogue(stage), contraction))
    context.offers.append(Offer("contraction", replace(contraction, sides=ordered), found))
    chosen = context.chosen("contraction", found)
    if chosen.parts == 1:
        return [Step(stage, chosen.tile)]
    sums, total = in_parts(stage, chosen.parts)
    return [Step(sums, chosen.tile), Step(total, stands_for=stage.result)]


def schedule(context: Context, step: Step) -> tuple[str, Body]:
    """The name of the schedule and the launch that computes a step."""
    epilogue = context.epilogue(step.stage)
    if step.stage.scope.reducer is None:
        return injective.schedule(context, epilogue)
    if step.tile is None:
        return reduction.schedule(context, epilogue)
    contraction = classify(context, step.stage.scope)
    assert contraction is not None
    kind = TensorEmission if isinstance(step.tile, TensorTile) else Emission
    return f"contraction {step.tile.label()}", kind(context, epilogue, contraction, step.tile).launch()


def _worthwhile(contraction: Contraction) -> bool:
    """Whether blocks pay: each operand is used for several of the other's points, and there are enough products."""
    first, second = contraction.sides
    if contraction.depth < 2 or min(first.extent, second.extent) < 4:
        return False
    return first.extent * second.extent * contraction.depth >= 512
