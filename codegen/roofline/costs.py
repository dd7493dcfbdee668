"""Costs of kernels on a GPU that is not here, for the passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codegen.roofline.bounds import STARTS, Bounds, bounds
from codegen.roofline.work import Launch, launch_of_operator, launches_of
from codegen.targets.gpu import GpuTarget
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.program import Compute, Statement


class RooflineCost:
    """``tensoropt.cost.CostModel`` of a GPU by its data alone: the same answer on every machine, at every time.

    What is computed from constants alone is free, since it is folded; so are views. ValueError for a target without ceilings.
    """

    def __init__(self, target: GpuTarget) -> None:
        if not (target.ceilings.f32 and target.ceilings.f64 and target.ceilings.bytes_per_second):
            raise ValueError(f"no rates are known of {target.name}")
        self.target = target
        self._known: dict[Any, list[Launch]] = {}

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """See ``CostModel``."""
        return self.compare([Alternative((kernel,), kernel.outputs, constants)])[0]

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        return [self._cost(alternative) for alternative in alternatives]

    def launches(self, alternative: Alternative) -> list[tuple[Launch, Bounds]]:
        """The launches of an alternative, in order, and what bounds each of them."""
        known = set(alternative.constants)
        found: list[tuple[Launch, Bounds]] = []
        for kernel in alternative.kernels:
            if kernel.inputs and all(tensor.name in known for tensor in kernel.inputs):
                known |= {output.name for output in kernel.outputs}
                continue
            found += [(launch, bounds(launch, self.target, known)) for launch in self._launches(kernel)]
        return found

    def _cost(self, alternative: Alternative) -> KernelCost:
        terms: dict[str, float] = {}
        launches = self.launches(alternative)
        for _, bound in launches:
            terms[STARTS] = terms.get(STARTS, 0.0) + bound.starting
            if bound.terms:
                name = max(bound.terms, key=lambda name: bound.terms[name])
                terms[name] = terms.get(name, 0.0) + bound.terms[name]
        ordered = tuple(sorted(terms.items(), key=lambda term: -term[1]))
        seconds = sum(bound.seconds for _, bound in launches)
        return KernelCost(seconds, source="predicted", reason=_sentence(len(launches), ordered), terms=ordered)

    def _launches(self, kernel: Statement) -> list[Launch]:
        if not isinstance(kernel, Compute):
            return [launch_of_operator(kernel)]
        if kernel.expression not in self._known:
            self._known[kernel.expression] = launches_of(kernel.expression)
        return self._known[kernel.expression]


def _sentence(launches: int, terms: tuple[tuple[str, float], ...]) -> str:
    """``2 launches: memory 10.1 µs, f32 3.0 µs``: what bounds them, the dearest first."""
    parts = ", ".join(f"{name} {seconds * 1e6:.1f} µs" for name, seconds in terms if seconds >= 5e-8)
    return f"{launches} launch{'' if launches == 1 else 'es'}" + (f": {parts}" if parts else "")
