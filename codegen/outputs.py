"""Where a program's outputs come from: what a run writes, and what is an input or a constant as it is."""

from __future__ import annotations

from collections.abc import Collection

from codegen.signature import OutputSource
from codegen.weights import Weights
from tensoropt.allocation import Placement
from tensoropt.ir.program import Program


def written_outputs(program: Program, plan: Placement, made: Collection[str]) -> list[str]:
    """The outputs that a run writes, each once: those that calls make, and wholes of parts that they make."""
    return list(dict.fromkeys(one.name for one in program.outputs if one.name in made or one.name in plan.wholes))


def output_sources(program: Program, written: list[str], weights: Weights) -> tuple[OutputSource, ...]:
    """Where the values of each output are after a run. Constants among them join the weights."""
    inputs = [tensor.name for tensor in program.inputs]
    sources: list[OutputSource] = []
    for tensor in program.outputs:
        name = tensor.name
        if name in written:
            sources.append(OutputSource("output", written.index(name)))
        elif name in inputs:
            sources.append(OutputSource("input", inputs.index(name)))
        else:
            sources.append(OutputSource("weights", weights.constant(name, program.constants[name])))
    return tuple(sources)
