"""Alternatives of a region: its statements with some replaced, fused anew, for the cost model to compare."""

from __future__ import annotations

from collections.abc import Iterable

import networkx

from passes.fuse import Fuse
from passes.normalise.compose_movers import ComposeMovers
from tensoropt.cost import Alternative
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Compute, Program
from tensoropt.pass_manager import Context


def alternative(
    statements: Iterable[Compute], anchors: tuple[Tensor, ...], constants: frozenset[str], label: str, context: Context
) -> Alternative:
    """The kernels of a region: its statements, in any order, fused for the outputs that are needed outside, the anchors."""
    ordered = in_order(list(statements))
    produced = {statement.output for statement in ordered}
    inputs = tuple(
        dict.fromkeys(tensor for statement in ordered for tensor in statement.inputs if tensor not in produced)
    )
    region = Program("region", inputs, anchors, {}, tuple(ordered))
    region = Fuse().run(ComposeMovers().run(region, context), context)
    known = frozenset(tensor.name for tensor in inputs if tensor.name in constants)
    return Alternative(region.statements, anchors, known, label)


def in_order(statements: list[Compute]) -> list[Compute]:
    """The statements so that each follows what it reads, otherwise as they stand."""
    by_output = {statement.output: position for position, statement in enumerate(statements)}
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(statements)))
    for position, statement in enumerate(statements):
        graph.add_edges_from((by_output[tensor], position) for tensor in statement.inputs if tensor in by_output)
    return [statements[position] for position in networkx.lexicographical_topological_sort(graph)]
