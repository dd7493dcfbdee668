"""Stages of a kernel that a library computes, where the variant names one."""

from __future__ import annotations

from codegen.libraries.form import Aligned
from codegen.libraries.offers import parts_of
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.choose import Step
from codegen.schedules.gpu.context import Context


def is_wanted(context: Context) -> bool:
    """Whether the variant names a library."""
    return "library" in context.variant


def steps(context: Context, epilogue: Epilogue, aligned: Aligned) -> list[Step]:
    """The launches of a stage with a library's call in the place of one; none where the library does not have it."""
    if not is_wanted(context):
        return []
    found = parts_of(epilogue, str(context.variant["library"]), aligned)
    return [Step(part.stage, library=part.found) for part in found]
