"""Costs by measurement in a process of its own: a crash, a hang or a memory blow-up costs one candidate and nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from codegen.targets.cpu import CpuTarget
from codegen.tune.database import Database
from codegen.tune.records import Records
from codegen.tune.session import LOSSES, Measured, Process, Session, Trial
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.canonical import canonical_kernel_key
from tensoropt.ir.program import Compute, Statement
from tensoropt.isolated import Lost, Worker
from tensoropt.quiet import Quiet


class MeasuredCost:
    """``tensoropt.cost.CostModel`` of the CPU: kernels compiled, run and timed; results kept in the tuning database.

    ``seconds`` is how long the alternatives of one comparison are timed together; ``quiet`` is kept meanwhile. ``records`` are
    those of the user's own database unless they are given, and ``session`` measures where that is not to be here.
    """

    def __init__(
        self,
        target: CpuTarget,
        worker: Worker | None = None,
        seconds: float = 0.25,
        quiet: Quiet | None = None,
        records: Records | None = None,
        session: Session | None = None,
    ) -> None:
        self.target, self.seconds = target, seconds
        self.session = session or Session(target, worker, quiet)
        self.records = records or Records(Database(), target)
        self.spent = 0.0
        """Seconds of building and timing so far."""

    @property
    def worker(self) -> Process:
        """The measuring process."""
        return self.session.worker

    def __enter__(self) -> MeasuredCost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the measuring process."""
        self.worker.stop()

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """See ``CostModel``."""
        return self.compare([Alternative((kernel,), kernel.outputs, constants)])[0]

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        key = "alternatives: " + " | ".join(map(alternative_key, alternatives))
        known = self.records.read(key)
        costs = [_from_entry(known.get(str(position))) for position in range(len(alternatives))]
        if all(cost is not None for cost in costs):
            return [cost for cost in costs if cost is not None]
        started = time.monotonic()
        measured = self._measured(alternatives)
        if measured[0].cost.source == "failed":  # there is nothing to compare with
            why = f"the reference failed: {measured[0].cost.reason}"
            costs = [measured[0].cost, *(KernelCost.failed(why) for _ in measured[1:])]
        else:
            costs = [outcome.cost for outcome in measured]
        self.spent += time.monotonic() - started
        found = [cost for cost in costs if cost is not None]
        if not any(outcome.late for outcome in measured):  # a busy machine explains that too, so it is not remembered
            self.records.write(key, {str(position): _as_entry(cost) for position, cost in enumerate(found)})
        return found

    def _measured(self, alternatives: Sequence[Alternative]) -> list[Measured]:
        """What became of them; on another machine where one is lost meanwhile. Lost where there is no other."""
        trials = [Trial(alternative) for alternative in alternatives]
        for _ in range(LOSSES):
            if not self.session.ready(lambda: True):
                raise Lost("there is no device left")
            with suppress(Lost):
                return self.session.measure(trials, self.seconds)
        reason = "one device after another was lost while it was measured"
        return [Measured(KernelCost.failed(reason), late=True) for _ in trials]


def alternative_key(alternative: Alternative) -> str:
    """What a measurement depends on, without names: kernels by canonical key, wired as they are."""
    names: dict[str, str] = {}
    parts: list[str] = []
    for kernel in alternative.kernels:
        if isinstance(kernel, Compute):
            key, order = canonical_kernel_key(kernel.expression)
        else:
            key, order = f"{kernel.operator} {kernel.opset} {kernel.node.hex()}", kernel.inputs
        wired = [names.setdefault(tensor.name, f"v{len(names)}") for tensor in (*order, *kernel.outputs)]
        fixed = [str(int(tensor.name in alternative.constants)) for tensor in order]
        parts.append(f"{key} {' '.join(wired)} {''.join(fixed)}")
    return "; ".join([*parts, " ".join(names.get(tensor.name, "?") for tensor in alternative.outputs)])


def _as_entry(cost: KernelCost) -> dict[str, Any]:
    return {
        "seconds": cost.seconds,
        "workspace": cost.workspace_bytes,
        "source": cost.source,
        "reason": cost.reason,
    }


def _from_entry(entry: Mapping[str, Any] | None) -> KernelCost | None:
    """The cost that was stored; None where there is none or it is none."""
    match entry:
        case {"seconds": float(seconds), "workspace": int(workspace), "source": str(source), "reason": str(reason)}:
            return KernelCost(seconds, workspace, source, reason)
        case _:
            return None
