"""The measuring process: builds alternatives, runs them between guards, judges and times them. ``process`` runs it.

Requests and replies are pickled over one connection. A reply "failed" is about the candidate alone; after "broken" (it wrote
where it must not, or took all memory) the process is not to be trusted either. Whatever goes wrong here, who asked goes on.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from codegen.build import compile_program
from codegen.runtime import configure_threads, load_runtime
from codegen.targets.cpu import CpuTarget
from codegen.targets.parsing import Target
from codegen.tune.comparing import Judge, seeded
from codegen.tune.device_building import build_for_device, digests, guarded
from codegen.tune.guarded import Broken, GuardedRun
from codegen.tune.requests import Build, Check, Forget, Time
from tensoropt.allocation import ALIGNMENT, Placement
from tensoropt.cost import Alternative
from tensoropt.ir.constant_values import constant_value
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Compute, Opaque, Program, Statement
from tensoropt.ir.structure import view_source
from tensoropt.serving import reason, serve

_ROUNDS = 200
"""Runs of each at the most; the fastest of so many does not get faster."""
_DROPPED = ((1, 2.0), (3, 1.25))
"""(rounds, factor): what is so many times slower than the fastest after so many rounds is not timed on."""


class Run(Protocol):
    """What was built, with buffers of its own."""

    def __call__(self) -> None:
        """One run."""
        ...

    def seconds(self) -> float:
        """How long one more run takes."""
        ...

    def finish(self) -> dict[str, Array]:
        """The outputs by name. Broken where the run did something else."""
        ...

    def clocks(self) -> Mapping[str, int] | None:
        """Clocks in MHz of what runs it; None where they are not told."""
        ...


Values = Callable[[Tensor], Array]
"""The content of a tensor that nothing here computes."""


def as_program(alternative: Alternative, values: Values) -> tuple[Program, Placement]:
    """The alternative as a program of its own, every value in a place of its own."""
    made = {output for kernel in alternative.kernels for output in kernel.outputs}
    read = {tensor: None for kernel in alternative.kernels for tensor in kernel.inputs if tensor not in made}
    constants = {tensor.name: values(tensor) for tensor in read if tensor.name in alternative.constants}
    inputs = tuple(tensor for tensor in read if tensor.name not in constants)
    kernels: list[Statement] = []
    for kernel in alternative.kernels:  # what constants alone decide is no work of the model
        if isinstance(kernel, Compute) and kernel.inputs and all(tensor.name in constants for tensor in kernel.inputs):
            constants[kernel.output.name] = constant_value(kernel.expression, constants)
        else:
            kernels.append(kernel)
    offsets: dict[str, int] = {}
    aliases: dict[str, str] = {}
    size = 0
    for kernel in kernels:
        source = view_source(kernel.expression) if isinstance(kernel, Compute) else None
        for tensor in kernel.outputs:
            if tensor in alternative.outputs:
                continue
            if isinstance(source, Tensor):
                aliases[tensor.name] = source.name
            else:
                offsets[tensor.name] = size
                size += -(-tensor.type.bytes // ALIGNMENT) * ALIGNMENT
    program = Program("measured", inputs, alternative.outputs, constants, tuple(kernels))
    return program, Placement(offsets, size, size, aliases)


class _Bench:
    """What is built in this process."""

    def __init__(self, limited: int) -> None:
        self.runs: dict[int, tuple[Run, Judge, Check]] = {}
        self.reference: dict[str, Array] | None = None
        self._limited = limited
        self._threads = 0
        self._values: dict[tuple[Tensor, int | None, bool], Array] = {}
        """What tensors hold, shared by all alternatives: weights are large."""

    def build(self, request: Build) -> tuple[str, Any]:
        _allow(request.memory_bytes, self._limited)
        values = self._filling(request)
        program, plan = as_program(request.alternative, values)
        feeds = {tensor.name: values(tensor) for tensor in program.inputs}
        run, found = (self._for_cpu if isinstance(request.target, CpuTarget) else self._for_device)(
            program, plan, request, feeds
        )
        judge = self._judge(program, feeds, request.target)
        self.runs[request.number] = run, judge, Check(request.number, exact=True)
        return "built", found

    def _for_cpu(self, program: Program, plan: Placement, request: Build, feeds: dict[str, Array]) -> tuple[Run, Any]:
        from tvm_ffi import structural_hash

        assert isinstance(request.target, CpuTarget)
        built = compile_program(program, plan, request.target, variants=request.variants)
        if self._threads != request.target.threads:
            self._threads = request.target.threads
            configure_threads(self._threads)
        kernels = [step.shared.kernel for step in built.steps]
        schedules = [name for kernel in kernels for name in kernel.schedules]
        code = [structural_hash(kernel.function, map_free_vars=True) for kernel in kernels]
        return GuardedRun(built, feeds), (built.signature.arena_bytes, schedules, code)

    def _for_device(
        self, program: Program, plan: Placement, request: Build, feeds: dict[str, Array]
    ) -> tuple[Run, Any]:
        built = build_for_device(program, plan, request)
        schedules = [name for step in built.steps for name in step.kernel.schedules]
        found = built.signature.arena_bytes, schedules, digests(built)
        return guarded(built, feeds, request), found

    def _filling(self, request: Build) -> Values:
        """Integers of an alternative with operators of ONNX may be positions, which must exist."""
        counted = any(isinstance(kernel, Opaque) for kernel in request.alternative.kernels)

        def values(tensor: Tensor) -> Array:
            key = tensor, request.largest, counted
            if key not in self._values:
                self._values[key] = seeded(tensor, request.largest, counted)
                self._values[key].flags.writeable = False
            return self._values[key]

        return values

    def _judge(self, program: Program, feeds: dict[str, Array], target: Target) -> Judge:
        """The judge of an equal kernel is used again: its points are the same."""
        for _, judge, _ in self.runs.values():
            if judge.kernels == program.statements:
                return judge
        return Judge(program.statements, {**program.constants, **feeds}, target.operand_roundoff)

    def check(self, request: Check) -> tuple[str, Any]:
        run, judge, _ = self.runs[request.number]
        self.runs[request.number] = run, judge, request
        run()
        results = run.finish()
        problem = judge.problem(results, self.reference, request.exact, request.growth)
        if problem:
            del self.runs[request.number]
            return "failed", problem
        if self.reference is None:
            self.reference = {name: array.copy() for name, array in results.items()}
        return "agrees", None

    def time(self, request: Time) -> tuple[str, Any]:
        runs = [self.runs[number] for number in request.numbers]
        clocks = [runs[0][0].clocks()]
        best = _raced([run for run, _, _ in runs], request.seconds)
        clocks.append(runs[0][0].clocks())
        problems = [  # looked at once more: threads that race do not collide every time
            judge.problem(run.finish(), self.reference, check.exact, check.growth) for run, judge, check in runs
        ]
        return "timed", (list(zip(best, problems, strict=True)), None if None in clocks else clocks)

    def serve(self, request: Any) -> tuple[str, Any]:
        match request:
            case Build():
                return self.build(request)
            case Check():
                return self.check(request)
            case Time():
                return self.time(request)
            case Forget():
                self.runs.clear()
                self._values.clear()
                self.reference = None
                return "forgotten", None
            case _:
                return "failed", f"no such request: {request!r}"


def _raced(runs: Sequence[Run], seconds: float) -> list[float]:
    """The fastest run of each, in seconds: on a busy machine only the fastest say something."""
    deadline = time.perf_counter() + seconds
    best = [float("inf")] * len(runs)
    racing = list(range(len(runs)))
    for run in runs:
        run()
    for round in range(1, _ROUNDS + 1):
        for position in racing:
            best[position] = min(best[position], runs[position].seconds())
        for after, factor in _DROPPED:
            if round == after:
                racing = [position for position in racing if position == 0 or best[position] <= factor * min(best)]
        if round >= 3 and time.perf_counter() > deadline:
            break
    return best


def _allow(more: int, limited: int) -> None:
    """Lets the process take so many bytes more than it has of what is ``limited``, within what it may take at all."""
    try:
        sizes = Path("/proc/self/statm").read_text().split()
    except OSError:
        return  # not Linux: what it may take at all is the limit
    pages = int(sizes[0] if limited == resource.RLIMIT_AS else sizes[5])
    _, hard = resource.getrlimit(limited)
    resource.setrlimit(limited, (min(pages * resource.getpagesize() + more, hard), hard))


def main(arguments: Sequence[str], limited: int = resource.RLIMIT_AS) -> None:
    """Serves one connection (a file descriptor) until it closes, within a limit in bytes of what is ``limited``."""
    serve(arguments, lambda request: _answer(_bench(limited), request), limited)


@cache
def _bench(limited: int) -> _Bench:
    """Made at the first request, when the process has its limits."""
    load_runtime()
    return _Bench(limited)


def _answer(bench: _Bench, request: Any) -> tuple[str, Any]:
    try:
        return bench.serve(request)
    except Broken as broken:
        return "broken", str(broken)
    except MemoryError:
        return "broken", "ran out of memory"
    except Exception as error:  # a candidate that does not compile must not end the process
        return "failed", reason(error)
