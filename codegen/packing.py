"""Constants rearranged when a program is compiled, with NumPy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.schedules.cpu.context import Packing
from tensoropt.ir.expression import Scope, Tensor, accesses, scopes, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array


def pack(packing: Packing, constants: Mapping[str, Array]) -> Array:
    """The packed array, flat. The body is evaluated by the interpreter, which defines its meaning, some rows at a time."""
    scope = Scope(packing.axes, substitute(packing.body, packing.mapping), (), None)
    return np.ascontiguousarray(evaluate(scope, constants)).reshape(-1)


def packing_sources(packing: Packing) -> tuple[Tensor, ...]:
    """The constants that a packing reads."""
    from tensoropt.ir.expression import tensors

    probe = Scope([iterator for iterator in packing.axes], substitute(packing.body, packing.mapping), (), None)
    return tuple(tensors(probe))


__all__ = ["Index", "Iterator", "accesses", "pack", "packing_sources", "scopes"]
