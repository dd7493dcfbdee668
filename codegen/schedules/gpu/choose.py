"""Which schedule a stage gets, by the structure of its expression. The last ones take everything, so nothing stays unscheduled."""

from __future__ import annotations

from codegen.schedules.context import Epilogue
from codegen.schedules.gpu import injective, reduction
from codegen.schedules.gpu.context import Body, Context


def schedule(context: Context, epilogue: Epilogue) -> tuple[str, Body]:
    """The name of the schedule and the launch that computes the stage."""
    if epilogue.stage.scope.reducer is None:
        return "injective", injective.schedule(context, epilogue)
    return reduction.schedule(context, epilogue)
