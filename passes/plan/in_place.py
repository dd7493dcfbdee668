"""Which values a statement may write over: element-wise kernels read an element before they write the one at its place."""

from __future__ import annotations

from collections import Counter

from passes.plan.storage import Storage
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import overwritable


def takeovers(program: Program, storage: Storage) -> dict[str, tuple[str, ...]]:
    """For each value the stored values whose bytes it may take over when nothing reads them afterwards.

    Inputs, constants and outputs are not the program's to write over, and an output is written where the caller wants it. Parts
    have their place, and wholes are not written over, since a part may be read once more. A value that the statement also reads
    elsewhere, or under another name, is not among them.
    """
    outputs = {tensor.name for tensor in program.outputs}
    sizes = {tensor.name: tensor.type.bytes for statement in program.statements for tensor in statement.outputs}
    stored = sizes.keys() - outputs - storage.views.keys() - storage.parts.keys() - set(storage.parts.values())
    found: dict[str, tuple[str, ...]] = {}
    for statement in program.statements:
        if not isinstance(statement, Compute) or statement.output.name not in stored:
            continue
        reads = Counter(storage.owner(tensor.name) for tensor in statement.inputs)
        sources = (storage.owner(tensor.name) for tensor in overwritable(statement.expression))
        size = statement.output.type.bytes
        own = tuple(one for one in sources if one in stored and reads[one] == 1 and sizes[one] == size)
        if own:
            found[statement.output.name] = own
    return found
