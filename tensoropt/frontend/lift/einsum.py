"""Einsum of any equation, more than two operands pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from tensoropt.frontend.lift.node import Node, NotExpressed, Operand, tensor_operand
from tensoropt.frontend.lift.scalars import apply
from tensoropt.ir.expression import Scalar, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute, Statement


@dataclass(frozen=True, slots=True)
class _Factor:
    """An operand with the letter of each axis. Letters along which it broadcasts do not count."""

    operand: Operand
    letters: tuple[str, ...]

    def read(self, iterators: Mapping[str, Iterator]) -> Scalar:
        return self.operand.read(
            Index.of(0 if extent == 1 else iterators[letter])
            for letter, extent in zip(self.letters, self.operand.shape, strict=True)
        )

    @property
    def varying(self) -> set[str]:
        return {letter for letter, extent in zip(self.letters, self.operand.shape, strict=True) if extent != 1}


def lift_einsum(node: Node) -> list[Statement]:
    """Repeated letters take diagonals, letters that the output lacks are summed, an ellipsis broadcasts.

    What one operand alone is summed over is summed before it meets the others. Of three or more operands the pair
    with the smallest product is contracted first, until two are left.
    """
    operands = [node.operand(position) for position in range(len(node.operands))]
    inputs, output = parse_equation(str(node.attribute("equation")), [operand.rank for operand in operands])
    extents: dict[str, int] = {}
    for letters, operand in zip(inputs, operands, strict=True):
        for letter, extent in zip(letters, operand.shape, strict=True):
            extents[letter] = extent if extents.get(letter, 1) == 1 else extents[letter]
    iterators = {letter: Iterator(letter, extent) for letter, extent in extents.items()}
    factors = [_Factor(operand, tuple(letters)) for letters, operand in zip(inputs, operands, strict=True)]
    statements: list[Statement] = []
    for place, factor in enumerate(factors):
        left = _kept_alone(factor, [*factors[:place], *factors[place + 1 :]], output)
        if left is not None:
            total = node.intermediate("sum", node.output.dtype, [extents[letter] for letter in left])
            statements.append(_contract(node, total, left, [factor], iterators))
            factors[place] = _Factor(tensor_operand(total), tuple(left))
    while len(factors) > 2:
        kept, pair = min(_pairs(factors, output), key=lambda found: prod(extents[letter] for letter in found[0]))
        product = node.intermediate("product", node.output.dtype, [extents[letter] for letter in kept])
        statements.append(_contract(node, product, kept, pair, iterators))
        factors = [factor for factor in factors if not any(factor is used for used in pair)]
        factors.append(_Factor(tensor_operand(product), tuple(kept)))
    return [*statements, _contract(node, node.output, output, factors, iterators)]


def _kept_alone(factor: _Factor, others: Sequence[_Factor], output: Sequence[str]) -> list[str] | None:
    """The letters of a factor without those summed over it alone; None where summing them first saves nothing."""
    elsewhere = set[str]().union(*(other.varying for other in others))
    summed = factor.varying - elsewhere - set(output)
    if not summed or elsewhere <= factor.varying:
        return None
    return list(dict.fromkeys(letter for letter in factor.letters if letter in factor.varying - summed))


def _pairs(factors: Sequence[_Factor], output: Sequence[str]) -> list[tuple[list[str], list[_Factor]]]:
    """Each pair of factors with the letters that its product keeps: those that the output or another factor has."""
    pairs = []
    for one, other in combinations(range(len(factors)), 2):
        rest = [factor for position, factor in enumerate(factors) if position not in (one, other)]
        wanted = set(output).union(*(factor.varying for factor in rest))
        pair = [factors[one], factors[other]]
        pairs.append((sorted(wanted & (pair[0].varying | pair[1].varying)), pair))
    return pairs


def _contract(
    node: Node, result: Tensor, kept: Sequence[str], factors: Sequence[_Factor], iterators: Mapping[str, Iterator]
) -> Compute:
    # a letter along which these factors only broadcast is summed where another factor varies along it
    varying = set[str]().union(*(factor.varying for factor in factors))
    letters = dict.fromkeys(letter for factor in factors for letter in factor.letters)
    summed = [letter for letter in letters if letter in varying and letter not in kept]
    values = [factor.read(iterators) for factor in factors]
    body = values[0] if len(values) == 1 else apply("mul", values[0], values[1])
    return node.compute(result, [iterators[letter] for letter in kept], body, [iterators[letter] for letter in summed])


def parse_equation(equation: str, ranks: list[int]) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand and of the output. Axes under an ellipsis are called e0, e1, … from the right-most inward."""
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise NotExpressed("the equation has another number of operands")
    inputs = [_letters(term, rank - len(term.replace("...", ""))) for term, rank in zip(terms, ranks, strict=True)]
    hidden = max((rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)), default=0)
    if arrow:
        output = _letters(right, hidden)
    else:
        counted = [letter for letters in inputs for letter in letters]
        ellipsis = [f"e{axis}" for axis in reversed(range(hidden))]
        output = ellipsis + sorted(letter for letter in set(counted) if len(letter) == 1 and counted.count(letter) == 1)
    return inputs, output


def _letters(term: str, hidden: int) -> list[str]:
    head, ellipsis, tail = term.partition("...")
    return [*head, *([f"e{axis}" for axis in reversed(range(hidden))] if ellipsis else []), *tail]
