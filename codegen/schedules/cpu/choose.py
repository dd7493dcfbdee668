"""Which schedule a stage gets, by the structure of its expression. The last ones take everything, so nothing stays unscheduled."""

from __future__ import annotations

from math import prod
from typing import Any

from codegen.lower import tir
from codegen.schedules.cpu import injective, reduction
from codegen.schedules.cpu.context import Context, Epilogue


def schedule(context: Context, epilogue: Epilogue) -> tuple[str, Any]:
    """The name of the schedule and the statement that computes the stage."""
    scope = epilogue.stage.scope
    if scope.reducer is None:
        return "injective", injective.schedule(context, epilogue)
    return "reduction", reduction.schedule(context, epilogue)
