"""Cross entropy: the negative logarithm of the probability of the labelled class, chosen without an index that depends on data."""

from __future__ import annotations

import math

from tensoropt.frontend.lift.node import Node, NotExpressed
from tensoropt.frontend.lift.scalars import apply, literal, where
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Reducer, Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Statement


def lift_negative_log_likelihood(node: Node) -> list[Statement]:
    """``−Σ<c> [label = c]·w[c]·x[n, c, d..]``, reduced as the attribute says."""
    batch, classes, places = _axes(node)
    return _reduced(node, batch, classes, places, node.operand(0).at([batch, classes, *places]))


def lift_softmax_cross_entropy(node: Node) -> list[Statement]:
    """The logarithm of the softmax over the second axis, which is also the second output, and its negative log-likelihood."""
    batch, classes, places = _axes(node)
    scores = node.operand(0)
    kept, whole = [batch, *places], [batch, classes, *places]
    top = node.intermediate("max", scores.dtype, [iterator.extent for iterator in kept])
    total = node.intermediate("sum", scores.dtype, [iterator.extent for iterator in kept])
    logarithm = node.outputs[1] if len(node.outputs) > 1 else None
    if logarithm is None:
        logarithm = node.intermediate("log_prob", scores.dtype, scores.shape)
    shifted = apply("sub", scores.at(whole), Access(top, kept))
    return [
        node.compute(top, kept, scores.at(whole), [classes], Reducer.MAX),
        node.compute(total, kept, apply("exp", shifted), [classes]),
        node.compute(logarithm, whole, apply("sub", shifted, apply("log", Access(total, kept)))),
        *_reduced(node, batch, classes, places, Access(logarithm, whole)),
    ]


def _axes(node: Node) -> tuple[Iterator, Iterator, list[Iterator]]:
    shape = node.operand(0).shape
    if len(shape) < 2:
        raise NotExpressed("scores without an axis of classes")
    return (
        Iterator("n", shape[0]),
        Iterator("c", shape[1]),
        [Iterator(f"d{axis}", size) for axis, size in enumerate(shape[2:])],
    )


def _reduced(
    node: Node, batch: Iterator, classes: Iterator, places: list[Iterator], logarithm: Scalar
) -> list[Statement]:
    labels, weights = node.operand(1), node.optional(2)
    kept = [batch, *places]
    label = labels.at(kept)
    chosen: Scalar = Apply("eq", label, IndexValue(Index.of(classes), labels.dtype))
    ignored = node.attribute("ignore_index")
    if ignored is not None:
        chosen = Apply("and", chosen, Apply("ne", label, Constant(int(ignored), labels.dtype)))
    share: Scalar = literal(1, logarithm) if weights is None else weights.at([classes])
    loss = where(chosen, apply("neg", logarithm if weights is None else apply("mul", logarithm, share)), 0)
    reduction = node.attribute("reduction", "mean")
    if reduction == "none":
        return [node.compute(node.output, kept, loss, [classes])]
    if reduction == "sum":
        return [node.compute(node.output, [], loss, [*kept, classes])]
    total = node.intermediate("total", node.output.dtype, [])
    statements: list[Statement] = [node.compute(total, [], loss, [*kept, classes])]
    if weights is None and ignored is None:
        count: Scalar = literal(float(math.prod(labels.shape)), logarithm)
    else:
        counted = node.intermediate("count", node.output.dtype, [])
        statements.append(node.compute(counted, [], where(chosen, share, 0), [*kept, classes]))
        count = Access(counted, [])
    return [*statements, node.compute(node.output, [], apply("div", Access(total, []), count))]
