"""Passes over programs and the one loop that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from tensoropt.cost import CostModel
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Program, Statement
from tensoropt.ir.verifier import verify
from tensoropt.quiet import Quiet

Progress = Callable[[str, float, str], None]
"""Called with the name of the stage, the share that is done (0 to 1) and what is being worked on."""


def silent(stage: str, share: float, detail: str) -> None:
    """The progress display of a call from Python: none."""


@dataclass(slots=True)
class Context:
    """What a run of the pipeline shares: injected services, limits, and the record that passes add to.

    ``workers`` is how many processes may search at the same time. ``derivations`` holds everything that was found,
    ``regions`` the outcome for each statement that was derived, ``searches`` the reports that these refer to, ``search`` figures
    of all searches together, and ``joins`` the outcome for statements that one launch could compute. ``written_as`` holds, by
    their output, statements that were rewritten for the sake of our own kernels only: other runtimes do better with the operator
    that they were.
    """

    cost_model: CostModel
    excluded_rules: frozenset[str] = frozenset()
    tune: str = "fast"
    seed: int = 0
    time_limit: float | None = None
    progress: Progress = silent
    workers: int = 1
    quiet: Quiet = field(default_factory=Quiet)
    started: float = field(default_factory=time.monotonic)
    derivations: list[dict[str, Any]] = field(default_factory=list)
    regions: list[dict[str, Any]] = field(default_factory=list)
    searches: list[dict[str, Any]] = field(default_factory=list)
    joins: list[dict[str, Any]] = field(default_factory=list)
    search: dict[str, Any] = field(default_factory=dict)
    stages: list[tuple[str, Program]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    written_as: dict[Tensor, Statement] = field(default_factory=dict)

    def time_is_up(self) -> bool:
        """Whether the time limit has passed; stages then stop with the best that they have."""
        return self.time_limit is not None and time.monotonic() - self.started > self.time_limit

    def deadline(self, share: float = 1.0) -> float | None:
        """The value of ``time.monotonic`` when this share of the time that is left has passed; None without a limit."""
        if self.time_limit is None:
            return None
        now = time.monotonic()
        return now + share * max(0.0, self.started + self.time_limit - now)


class Pass(Protocol):
    """A step from program to program. It keeps the meaning of every output; the fields of a pass are its options."""

    name: ClassVar[str]

    def run(self, program: Program, context: Context) -> Program:
        """The program after the pass; the same object where there was nothing to do."""
        ...


def run_passes(program: Program, passes: Sequence[Pass], context: Context) -> Program:
    """The program after all passes in order, verified and recorded after each.

    An exception leaves with a note that names the pass it comes from.
    """
    for step in passes:
        before = time.monotonic()
        try:
            program = step.run(program, context)
            verify(program)
        except Exception as error:
            error.add_note(f"in the pass {step.name}, after {[name for name, _ in context.stages]}")
            raise
        context.seconds[step.name] = context.seconds.get(step.name, 0.0) + time.monotonic() - before
        context.stages.append((step.name, program))
    return program
