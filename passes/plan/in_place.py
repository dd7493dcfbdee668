"""Which values a statement may write over: element-wise kernels read an element before they write the one at its place."""

from __future__ import annotations

from collections import Counter

from passes.plan.lifetimes import views
from tensoropt.allocation import shown
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import overwritable


def takeovers(program: Program) -> dict[str, tuple[str, ...]]:
    """For each value the stored values whose bytes it may take over when nothing reads them afterwards.

    Inputs, constants and outputs are not the program's to write over, and an output is written where the caller wants it. A value
    that the statement also reads elsewhere, or under another name, is not among them.
    """
    aliases = views(program)
    outputs = {tensor.name for tensor in program.outputs}
    stored = {tensor.name for statement in program.statements for tensor in statement.outputs}
    stored -= outputs | aliases.keys()
    found: dict[str, tuple[str, ...]] = {}
    for statement in program.statements:
        if not isinstance(statement, Compute) or statement.output.name not in stored:
            continue
        reads = Counter(shown(tensor.name, aliases) for tensor in statement.inputs)
        sources = (shown(tensor.name, aliases) for tensor in overwritable(statement.expression))
        own = tuple(source for source in sources if source in stored and reads[source] == 1)
        if own:
            found[statement.output.name] = own
    return found
