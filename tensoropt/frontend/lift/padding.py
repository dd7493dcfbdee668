"""Pad in all modes."""

from __future__ import annotations

from tensoropt.frontend.lift.axes import normal_axis, output_iterators
from tensoropt.frontend.lift.node import Node, NotExpressed, Operand, tensor_operand
from tensoropt.frontend.lift.scalars import conjunction, index_within, select, where
from tensoropt.ir.expression import Constant, Number, Scalar
from tensoropt.ir.index import Index
from tensoropt.ir.program import Statement


def _amounts(node: Node) -> list[tuple[int, int]]:
    """Padding before and after each axis; negative amounts crop."""
    rank = node.operand(0).rank
    if node.opset < 11:
        flat = node.integers("pads", node.attribute("paddings", []))
        axes = list(range(rank))
    else:
        flat = [int(value) for value in node.constant(1).reshape(-1)]
        given = node.optional_integers(3)
        axes = list(range(rank)) if given is None else [normal_axis(axis, rank) for axis in given]
    amounts = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        amounts[axis] = (flat[position], flat[position + len(axes)])
    return amounts


def lift_pad(node: Node) -> list[Statement]:
    """A constant is the value outside the box; other modes read mirrored, clamped or wrapped positions, one axis after another."""
    operand, amounts = node.operand(0), _amounts(node)
    mode = node.attribute("mode", "constant")
    if mode == "constant":
        return [_constant_pad(node, operand, amounts)]
    statements: list[Statement] = []
    padded = [axis for axis, amount in enumerate(amounts) if amount != (0, 0)]
    for axis in padded or [0]:
        shape = list(operand.shape)
        if not shape:
            break
        shape[axis] += sum(amounts[axis])
        last = axis == (padded or [0])[-1]
        output = node.output if last else node.intermediate(f"padded{axis}", operand.dtype, shape)
        iterators = output_iterators(shape)
        position = Index.of(iterators[axis]) - amounts[axis][0]
        pieces: list[tuple[int, Scalar]] = []
        for end, source in _sources(mode, position, operand.shape[axis], amounts[axis]):
            indices = [Index.of(found) for found in iterators]
            indices[axis] = source
            pieces.append((end, operand.at(indices)))
        statements.append(node.compute(output, iterators, select(pieces, position)))
        operand = tensor_operand(output)
    return statements


def _sources(mode: str, position: Index, extent: int, amount: tuple[int, int]) -> list[tuple[int, Index]]:
    """For each range of positions (given by its end) where it reads."""
    before, after = max(amount[0], 0), max(amount[1], 0)
    if extent == 0:
        raise NotExpressed("padding of an empty axis from its own elements")
    beyond = extent + after
    if mode == "wrap":
        return [(beyond, position % extent)]
    if mode == "edge":
        left, right = Index.of(0), Index.of(extent - 1)
    elif mode == "reflect":
        if max(before, after) >= extent:
            raise NotExpressed("reflection by more than the extent")
        left, right = -position, 2 * (extent - 1) - position
    else:
        raise NotExpressed(f"the padding mode {mode}")
    pieces = [(0, left)] if before else []
    pieces.append((extent, position))
    return [*pieces, (beyond, right)] if after else pieces


def _constant_pad(node: Node, operand: Operand, amounts: list[tuple[int, int]]) -> Statement:
    iterators = output_iterators(node.shape)
    indices = [Index.of(found) - before for found, (before, _) in zip(iterators, amounts, strict=True)]
    fill: Number = float(node.attribute("value", 0.0)) if node.opset < 11 else 0
    value = node.optional(2) if node.opset >= 11 else None
    if value is not None:
        if value.uniform is None:
            inside = conjunction(
                [
                    test
                    for index, extent in zip(indices, operand.shape, strict=True)
                    if not isinstance(test := index_within(index, 0, extent), Constant)
                ]
            )
            outer = value.at([0] * value.rank)
            return node.compute(node.output, iterators, where(inside, operand.at(indices), outer))
        fill = value.uniform.item()
    if not operand.dtype.is_float:
        fill = int(fill)
    return node.compute(node.output, iterators, operand.at(indices, fill))
