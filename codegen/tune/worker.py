"""Costs by measurement in a process of its own: a crash, a hang or a memory blow-up costs one candidate and nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from codegen.targets.cpu import CpuTarget
from codegen.tune import cache
from codegen.tune.requests import Build, Forget, Time
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.canonical import canonical_kernel_key
from tensoropt.ir.program import Compute, Statement
from tensoropt.isolated import Failed, Worker
from tensoropt.quiet import Quiet

_MEASURING = "codegen.tune.measuring"

Variant = Mapping[str, int]
"""Schedule parameters of one kernel."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """What is built and timed: kernels, and schedule parameters by the name of a kernel's output."""

    alternative: Alternative
    variants: Mapping[str, Variant]


class MeasuredCost:
    """``tensoropt.cost.CostModel`` of the CPU: kernels compiled, run and timed; results kept on disk.

    ``seconds`` is how long the alternatives of one comparison are timed together; ``quiet`` is kept meanwhile.
    """

    def __init__(
        self, target: CpuTarget, worker: Worker | None = None, seconds: float = 0.25, quiet: Quiet | None = None
    ) -> None:
        self.target, self.worker, self.seconds = target, worker or Worker(_MEASURING), seconds
        self.quiet = quiet or Quiet()
        self.spent = 0.0
        """Seconds of building and timing so far."""

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
        keys = [self._key(alternative) for alternative in alternatives]
        together = " | ".join(keys)
        known = [cache.read(f"{together} # {position}") for position in range(len(keys))]
        if all(entry is not None for entry in known):
            return [_from_entry(entry) for entry in known if entry is not None]
        started = time.monotonic()
        costs = self._measure([_Trial(alternative, {}) for alternative in alternatives])
        self.spent += time.monotonic() - started
        if any("longer than" in cost.reason for cost in costs):
            return costs  # a busy machine explains that too, so it is not remembered
        for position, cost in enumerate(costs):
            entry = {
                "seconds": cost.seconds,
                "workspace": cost.workspace_bytes,
                "source": cost.source,
                "reason": cost.reason,
            }
            cache.write(f"{together} # {position}", entry)
        return costs

    def fastest_variant(self, kernel: Compute, constants: frozenset[str], variants: Sequence[Variant]) -> int:
        """Which of several schedules of one kernel is the fastest; 0, the one without a search, where nothing could be timed."""
        alternative = Alternative((kernel,), kernel.outputs, constants)
        key = f"{self._key(alternative)} variants {[sorted(variant.items()) for variant in variants]}"
        known = cache.read(key)
        if known is not None:
            return int(known["fastest"])
        started = time.monotonic()
        trials = [_Trial(alternative, {kernel.output.name: variant}) for variant in variants]
        costs = self._measure(trials)
        self.spent += time.monotonic() - started
        fastest = min(range(len(costs)), key=lambda position: costs[position].seconds)
        if costs[fastest].source == "measured":
            cache.write(key, {"fastest": fastest, "seconds": [cost.seconds for cost in costs]})
        return fastest

    def _measure(self, trials: Sequence[_Trial]) -> list[KernelCost]:
        costs = [KernelCost.failed("not measured")] * len(trials)
        workspace: dict[int, int] = {}
        for number, trial in enumerate(trials):
            try:
                workspace[number] = self._build(number, trial, trials[0])
            except Failed as failure:
                costs[number] = KernelCost.failed(str(failure))
                if number == 0:
                    break
        good = tuple(workspace)
        if not good:
            return costs
        try:
            if not self.worker.running:
                for number in good:
                    self._build(number, trials[number], trials[0])
            with self.quiet.kept():
                kind, times = self.worker.ask(Time(good, self.seconds))
            if kind != "timed":
                raise Failed(str(times))
            for number, seconds in zip(good, times, strict=True):
                costs[number] = KernelCost(seconds, workspace[number])
        except Failed as failure:
            for number in good:
                costs[number] = KernelCost.failed(str(failure))
        self._forget()
        return costs

    def _build(self, number: int, trial: _Trial, reference: _Trial) -> int:
        if number and not self.worker.running:
            self._build(0, reference, reference)
        kind, detail = self.worker.ask(Build(number, trial.alternative, self.target, trial.variants))
        if kind != "built":
            raise Failed(str(detail))
        return int(detail)

    def _forget(self) -> None:
        try:
            self.worker.ask(Forget())
        except Failed:
            self.worker.stop()

    def _key(self, alternative: Alternative) -> str:
        """What the measurement depends on, without names: kernels by canonical key, wired as they are, and the target."""
        names: dict[str, str] = {}
        parts = [self.target.key]
        for kernel in alternative.kernels:
            if isinstance(kernel, Compute):
                key, order = canonical_kernel_key(kernel.expression)
            else:
                key, order = f"{kernel.operator} {kernel.opset} {kernel.node.hex()}", kernel.inputs
            wired = [names.setdefault(tensor.name, f"v{len(names)}") for tensor in (*order, *kernel.outputs)]
            fixed = [str(int(tensor.name in alternative.constants)) for tensor in order]
            parts.append(f"{key} {' '.join(wired)} {''.join(fixed)}")
        return "; ".join([*parts, " ".join(names.get(tensor.name, "?") for tensor in alternative.outputs)])


def _from_entry(entry: dict[str, Any]) -> KernelCost:
    return KernelCost(entry["seconds"], entry["workspace"], entry["source"], entry["reason"])
