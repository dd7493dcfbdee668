"""Attention that derivation would take apart: bands in one launch, before selection where that is faster than what it would choose.

Selection looks at one contraction at a time. What it makes of the two of a band, products of dense blocks, keeps the scores between
them stored; so the kernel in one launch has to be compared with all that selection makes of its nodes, and taken before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from passes.join_scores import joinable
from passes.records import join_record
from tensoropt.cost import Alternative
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.program import Compute, Program
from tensoropt.pass_manager import Context, Pass, run_passes


@dataclass(frozen=True, slots=True)
class JoinFirst:
    """Statements in, statements out.

    ``in_one_launch`` as in ``JoinScores``; ``rewrite`` are the passes that choose what statements become, ``kernels`` those that
    make kernels of them.
    """

    in_one_launch: Callable[[Scope], bool]
    rewrite: Sequence[Pass]
    kernels: Sequence[Pass]
    name: ClassVar[str] = "join_first"

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        if "all" in context.excluded_rules:
            return program
        found = joinable(run_passes(program, self.kernels, _apart(context)), self.in_one_launch)
        if not found:
            return program
        chosen = run_passes(program, (*self.rewrite, *self.kernels), _apart(context))
        later = {joined.output for _, joined in joinable(chosen, self.in_one_launch)}
        first: dict[Tensor, Compute] = {}
        for chain, joined in found:
            nodes = set(joined.origin)
            instead = [one for one in chosen.statements if one.origin and set(one.origin) <= nodes]
            if joined.output in later or joined.output in first or not instead:
                continue
            known = frozenset(chosen.constants) | frozenset(program.constants)
            stored, one = context.cost_model.compare(
                [
                    Alternative(tuple(instead), instead[-1].outputs, known, "stored"),
                    Alternative((joined,), (joined.output,), known, "in one launch"),
                ]
            )
            pays = one.seconds <= stored.seconds
            context.joins.append(join_record(chain, stored, one, pays))
            if pays:
                first[joined.output] = joined
        if not first:
            return program
        return program.with_statements(first.get(one.outputs[0], one) for one in program.statements)


def _apart(context: Context) -> Context:
    """A context like another whose records are its own."""
    return replace(
        context, derivations=[], regions=[], searches=[], joins=[], search={}, stages=[], seconds={}, written_as={}
    )
