"""One search as a value: what it is asked for, without the names of the model, so that it can be shared, stored and sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.reductions import derive_reduction, is_plain_reduction
from passes.derive.search import derive
from passes.derive.tasks.renaming import nameless
from tensoropt.ir.expression import Tensor, scopes
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import is_contraction


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gives: candidates of the nameless statement, and how it went."""

    candidates: tuple[Candidate, ...]
    report: SearchReport


@dataclass(frozen=True, slots=True)
class Task:
    """A nameless statement, which of the tensors that it reads are constant, and the limits of the search."""

    compute: Compute
    constants: frozenset[str]
    limits: SearchLimits
    excluded_rules: frozenset[str]

    @staticmethod
    def of(
        compute: Compute, constants: Collection[str], limits: SearchLimits, excluded_rules: Collection[str]
    ) -> tuple[Task, tuple[Tensor, ...]]:
        """The task of a statement of a program, and the tensors that it reads in the order of their new names."""
        statement, order = nameless(compute)
        known = frozenset(f"@{place}" for place, tensor in enumerate(order) if tensor.name in constants)
        return Task(statement, known, limits, frozenset(excluded_rules)), order

    def solve(self, deadline: float | None = None) -> Found:
        """Searches; ``deadline`` is a value of ``time.monotonic``. A defect of the search is told in the report."""
        report = SearchReport()
        search = derive_reduction if is_plain_reduction(self.compute.expression) else derive
        try:
            found = search(self.compute, self.constants, self.limits, self.excluded_rules, report, deadline)
        except MemoryError:
            raise
        except Exception as error:  # it must cost this statement only
            report.failure = f"the search failed: {type(error).__name__}: {error}"
            found = []
        return Found(tuple(found), report)


def derivable(statements: Iterable[Compute]) -> Compute | None:
    """The statement that there is a search for among some that fuse: their contraction, or their only other fold.

    None for kernels of several contractions, which are chosen already.
    """
    found = [one for one in statements if sum(map(is_contraction, scopes(one.expression))) < 2]
    for is_known in (is_contraction, is_plain_reduction):
        known = [statement for statement in found if is_known(statement.expression)]
        if known:
            return known[0] if len(known) == 1 else None
    return None
