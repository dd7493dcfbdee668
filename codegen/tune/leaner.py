"""Variants of a kernel that need less scratch memory, and how much longer they take: for runs within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from codegen.lower.kernel import lower
from codegen.targets.cpu import CpuTarget
from codegen.tune.kernels import ProgramKernel, program_kernel
from codegen.tune.pool import Pool, Request
from codegen.tune.records import Records
from codegen.tune.session import Session
from codegen.tune.space import TEMPLATES, Variant, variants
from codegen.tune.tuned import TunedKernel
from tensoropt.ir.program import Compute, Program
from tensoropt.quiet import Quiet

MEASURED = 3
"""Variants that are measured for a limit at the most: those ranked highest of all that keep it."""


@dataclass(frozen=True, slots=True)
class Leaner:
    """Schedule parameters of a kernel, its scratch memory in bytes, and the seconds that one run takes more."""

    parameters: Mapping[str, Any]
    workspace: int
    seconds: float


@dataclass(slots=True)
class LeanerKernels:
    """What else a program's kernels can be had for; variants are measured where nothing is known of them."""

    target: CpuTarget
    records: Records
    quiet: Quiet
    deadline: float | None = None
    """A value of ``time.monotonic``, after which nothing is measured."""
    _sizes: dict[str, list[tuple[Variant, int]]] = field(default_factory=dict)
    """The variants of kernels with their scratch memory, by the kernel's key."""

    def within(self, program: Program, statement: Compute, now: Mapping[str, Any], most: int) -> Leaner | None:
        """The fastest variant whose scratch memory is at most so many bytes, or where none has so little, that with the least.

        ``now``: the parameters that the kernel runs with. None where no other variant works.
        """
        kernel, current = program_kernel(statement, program, self.target), Variant(now)
        others = [(variant, size) for variant, size in self._sized(kernel) if variant.key != current.key]
        sizes = {variant.key: size for variant, size in others}
        tried = [variant for variant, size in others if size <= most][:MEASURED]
        tried = tried or [variant for variant, _ in sorted(others, key=lambda entry: entry[1])[:1]]
        tuned = TunedKernel(kernel, [current, *tried], self.records.read(kernel.key))
        if tuned.missing:
            pool = Pool([tuned], Request(TEMPLATES, self.deadline), self.records, Event(), self.quiet)
            pool.run([Session(self.target, quiet=self.quiet)], lambda share, detail: None)
        seconds = {variant.key: taken for variant in tuned.variants if (taken := tuned.seconds(variant.key))}
        best = min(
            (variant for variant in tried if variant.key in seconds), key=lambda one: seconds[one.key], default=None
        )
        if best is None or current.key not in seconds:
            return None
        return Leaner(best.parameters, sizes[best.key], max(0.0, seconds[best.key] - seconds[current.key]))

    def _sized(self, kernel: ProgramKernel) -> list[tuple[Variant, int]]:
        found = self._sizes.get(kernel.key)
        if found is None:
            found = []
            for variant in variants(kernel.kernel, kernel.constants, self.target, TEMPLATES):
                made = lower(
                    kernel.kernel.output,
                    kernel.kernel.expression,
                    self.target,
                    kernel.constants,
                    variant.parameters or None,
                )
                found.append((variant, made.workspace_bytes))
            self._sizes[kernel.key] = found
        return found
