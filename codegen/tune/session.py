"""One measuring process and what it is asked for: alternatives built, judged and timed, whatever one does to the process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from signal import SIGKILL, Signals
from typing import Any, Protocol

from codegen.targets.parsing import Target
from codegen.tune.exactness import exact_range
from codegen.tune.layout import Layout
from codegen.tune.requests import Build, Check, Forget, Time
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.expression import Scope, scopes
from tensoropt.ir.operand_rounding import TF32_DIGITS
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import arithmetic
from tensoropt.isolated import GIB, Failed, Late, Worker
from tensoropt.quiet import Quiet

MEASURING = {
    "cpu": "codegen.tune.process",
    "cuda": "codegen.tune.device_process",
    "opencl": "codegen.tune.device_process",
}
"""The program of a measuring process, by the kind of its target."""

LOSSES = 10
"""Machines that are lost one after another while they measure one kernel: it may be what they die of."""

_FIRST_BUILD_SECONDS = 60.0
"""The reference, of which nothing is known yet; a kernel takes a second."""
_SLOWEST = 1e8
"""Scalar operations a second of a kernel that is as slow as one can be, on a busy machine."""
_START_SECONDS = 10.0
"""A process that starts imports the compiler, on a busy machine in so long."""
_PATIENCE = 20.0
"""How many times longer than the reference a candidate may take to be built, or to run."""
_COMPILER_BYTES = GIB
"""What a compilation takes, besides the kernel's own buffers and the copies of these that checking makes."""
_COPIES = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """What is built and timed: kernels, and schedule parameters by the name of a kernel's output.

    ``growth`` is how many times the usual rounding the candidate may show; None for one that adds and multiplies the same
    numbers in another order, which is exact where numbers are small integers. ``layout``: as in ``requests.Build``.
    """

    alternative: Alternative
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    growth: float | None = None
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a trial: its cost, the names of its schedules, and whether it failed only by taking too long.

    ``clocks`` are the device's in MHz before and after it was timed, where it tells them.
    """

    cost: KernelCost
    schedules: tuple[str, ...] = ()
    late: bool = False
    clocks: tuple[Mapping[str, int], ...] = ()


@dataclass(slots=True)
class _Patience:
    """Seconds that a request may take, from what the reference took."""

    build: float
    run: float

    def learn(self, build: float, run: float) -> None:
        self.build = 5.0 + _PATIENCE * build
        self.run = 3.0 + _PATIENCE * run


class Process(Protocol):
    """A measuring process, here (``tensoropt.isolated.Worker``) or on another machine."""

    @property
    def running(self) -> bool: ...

    @property
    def starts(self) -> int: ...

    def ask(self, request: Any, timeout: float | None = None) -> tuple[str, Any]: ...

    def signal(self, number: Signals) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> None: ...


class Session:
    """Measures trials in a process of its own. ``quiet`` is kept, for all but this process, while something is timed."""

    def __init__(self, target: Target, worker: Process | None = None, quiet: Quiet | None = None) -> None:
        self.target = target
        self.worker: Process = worker or Worker(MEASURING[target.kind], memory_bytes=physical_bytes())
        self.quiet = quiet or Quiet()
        self.abandoned = False
        self._present: dict[int, int] = {}
        """The start of the process that holds a trial, by the trial's number."""

    def pause(self) -> None:
        """See ``tensoropt.quiet``."""
        self.worker.pause()

    def resume(self) -> None:
        """See ``tensoropt.quiet``."""
        self.worker.resume()

    def abandon(self) -> None:
        """Ends what is being measured at once, and all that would be; may be called from another thread."""
        self.abandoned = True
        self.worker.signal(SIGKILL)

    def ready(self, wanted: Callable[[], bool]) -> bool:
        """Whether there is something to measure on, waited for while it is ``wanted``. Here, there always is."""
        return True

    def measure(
        self, trials: Sequence[Trial], seconds: float, stop: Callable[[], bool] = lambda: False
    ) -> list[Measured]:
        """What became of each trial. The first that works is the reference for the others; ``stop`` is asked between them.

        ``seconds`` is how long all are timed together. Lost where the machine that measures is out of reach.
        """
        rounded = TF32_DIGITS if self.target.operand_roundoff else None
        ranges = [exact_range(trial.alternative.kernels, rounded) for trial in trials]
        found = [None if trial.growth is not None else reach for trial, reach in zip(trials, ranges, strict=True)]
        largest = None if ranges[0] is None else min(reach for reach in (ranges[0], *found) if reach is not None)
        exact = [largest is not None and reach is not None for reach in found]
        run = _Run(self, trials, largest, exact, seconds)
        try:
            return run.measured(stop)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._present.clear()
        if self.worker.running:
            try:
                self.worker.ask(Forget(), _START_SECONDS)
            except Failed:
                self.worker.stop()

    def is_present(self, number: int) -> bool:
        """Whether the process still holds a trial."""
        return self.worker.running and self._present.get(number) == self.worker.starts

    def ask(self, request: Build | Check | Time, seconds: float) -> Any:
        """The result of a request; Failed where there is none. A process that is not to be trusted any more is ended."""
        if self.abandoned:
            raise Late("not measured")
        late = 0.0 if self.worker.running else _START_SECONDS
        kind, result = self.worker.ask(request, seconds + late)
        if kind == "broken":
            self.worker.stop()
        if kind in ("broken", "failed"):
            raise Failed(str(result))
        if isinstance(request, Build):
            self._present[request.number] = self.worker.starts
        return result


class _Run:
    """The trials of one comparison."""

    def __init__(
        self, session: Session, trials: Sequence[Trial], largest: int | None, exact: Sequence[bool], seconds: float
    ) -> None:
        self._session, self._trials, self._seconds = session, trials, seconds
        self._largest, self._exact = largest, exact
        self._reference: int | None = None
        work = max(_arithmetic(trial.alternative) for trial in trials)
        self._patience = _Patience(_FIRST_BUILD_SECONDS, 10.0 + work / _SLOWEST)
        self._learnt = False
        self._memory = _COMPILER_BYTES + _COPIES * max(_bytes(trial.alternative) for trial in trials)
        self._workspace: dict[int, int] = {}
        self._schedules: dict[int, tuple[str, ...]] = {}
        self._code: dict[int, list[int]] = {}

    def measured(self, stop: Callable[[], bool]) -> list[Measured]:
        """See ``Session.measure``."""
        outcomes = [Measured(KernelCost.failed("not measured"), late=True)] * len(self._trials)
        good: list[int] = []
        for number in range(len(self._trials)):
            if stop():
                break
            try:
                self._prepare(number)
            except Failed as failure:
                outcomes[number] = self._failed(number, failure)
                continue
            good.append(number)
            if self._reference is None:
                self._reference = number
        for number, outcome in self._timed(good).items():
            outcomes[number] = outcome
        return outcomes

    def _prepare(self, number: int) -> None:
        """Builds and judges a trial, after the reference where a new process does not have it."""
        reference = self._reference
        if reference is not None and reference != number and not self._session.is_present(reference):
            self._build(reference)
        self._build(number)

    def _build(self, number: int) -> None:
        trial = self._trials[number]
        request = Build(number, trial.alternative, self._session.target, self._memory, self._largest, trial.variants,
                        trial.layout)  # fmt: skip
        started = time.monotonic()
        workspace, schedules, code = self._session.ask(request, self._patience.build)
        built = time.monotonic() - started
        self._schedules[number], self._code[number] = tuple(schedules), code
        if trial.variants and any(self._code[other] == code for other in self._workspace if other != number):
            raise Failed(f"it is the same code as another's: {', '.join(schedules)}")
        started = time.monotonic()
        self._session.ask(Check(number, self._exact[number], trial.growth or 1.0), self._patience.run)
        self._workspace[number] = workspace
        if not self._learnt:
            self._learnt = True
            self._patience.learn(built, time.monotonic() - started)

    def _timed(self, good: list[int]) -> dict[int, Measured]:
        """The trials timed against one another; each against the reference alone where that does not work."""
        if not good:
            return {}
        try:
            return self._race(good)
        except Failed as failure:
            if len(good) == 1:
                return {good[0]: self._failed(good[0], failure)}
        found: dict[int, Measured] = {}
        for number in good:
            assert self._reference is not None
            try:
                found |= self._race(list(dict.fromkeys((self._reference, number))))
            except Failed as failure:
                found[number] = self._failed(number, failure)
        return found

    def _race(self, numbers: list[int]) -> dict[int, Measured]:
        for number in numbers:
            if not self._session.is_present(number):
                self._prepare(number)
        patience = 5.0 + 4 * self._seconds + len(numbers) * self._patience.run
        with self._session.quiet.kept(besides=self._session):
            times, clocks = self._session.ask(Time(tuple(numbers), self._seconds), patience)
        found = {}
        for number, (seconds, problem) in zip(numbers, times, strict=True):
            cost = KernelCost.failed(problem) if problem else KernelCost(seconds, self._workspace[number])
            found[number] = Measured(cost, self._schedules[number], clocks=tuple(clocks or ()))
        return found

    def _failed(self, number: int, failure: Failed) -> Measured:
        late = isinstance(failure, Late)
        return Measured(KernelCost.failed(str(failure)), self._schedules.get(number, ()), late)


def physical_bytes() -> int:
    """The memory of this machine, which no candidate may take more of."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _arithmetic(alternative: Alternative) -> int:
    """Scalar operations of all kernels."""
    expressions: list[Scope] = [kernel.expression for kernel in alternative.kernels if isinstance(kernel, Compute)]
    return sum(arithmetic(scope) for expression in expressions for scope in scopes(expression))


def _bytes(alternative: Alternative) -> int:
    """All values that the kernels read and write, and that their stages hold."""
    tensors = {tensor for kernel in alternative.kernels for tensor in (*kernel.inputs, *kernel.outputs)}
    nested = [
        scope.type.bytes
        for kernel in alternative.kernels
        if isinstance(kernel, Compute)
        for scope in scopes(kernel.expression)
    ]
    return sum(tensor.type.bytes for tensor in tensors) + sum(nested)
