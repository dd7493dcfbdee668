"""MetaSchedule over a kernel: an evolutionary search whose candidates are built and timed in processes of our own.

One process proposes schedules and learns from the times (``exploring``); others build candidates at once and time them one after
another (``trying``, on a device ``device_trying``). A candidate that crashes, hangs or eats memory costs itself.
Times from here rank schedules; whether one is right, and faster than another kind of schedule, is for a checked measurement to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from codegen.targets.cpu import CpuTarget, available_threads
from codegen.targets.parsing import Target
from codegen.tune import space
from codegen.tune.layout import Layout
from tensoropt.ir.program import Compute
from tensoropt.isolated import GIB, Failed, Worker

Variant = dict[str, str]
"""``{"metaschedule": text}``, what ``codegen.lower.kernel.lower`` and ``codegen.lower.device.lower`` take."""

Measure = Callable[[Sequence[Variant]], list[float | None]]
"""Seconds of a kernel under each of several schedules; None for one that failed."""

BATCH = 16
"""Candidates between two lessons: enough to learn from, few enough that a limit of time or a Ctrl-C loses little."""
KEPT = 4
"""How many of the fastest schedules ``search`` returns."""
_BUILDING = 30.0
"""Seconds that a candidate may take to build, the start of its process included; most take less than one."""
_RUNNING = 5.0
"""Seconds that timing a candidate may take: some schedules are a thousand times too slow."""
_TRYING = {"cpu": "codegen.tune.trying", "cuda": "codegen.tune.device_trying", "opencl": "codegen.tune.device_trying"}
"""The program that tries candidates, by the kind of its target."""
_DEVICE_BUILDERS = 4
"""Such processes at the most for a device: each takes some of its memory."""
_TIMED = 0.1
"""Seconds for which a candidate runs."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a search over a kernel's schedules; ends a search before."""

    kernel: Compute
    target: Target
    trials: int
    batch: int
    seed: int


@dataclass(frozen=True, slots=True)
class Propose:
    """The times of the last batch's candidates (none before the first), for texts of schedules to try next."""

    seconds: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Build:
    """Compile a kernel under a schedule; on a device its tensors lie as ``layout`` says."""

    kernel: Compute
    target: Target
    variant: Variant
    layout: Layout


@dataclass(frozen=True, slots=True)
class Time:
    """Run what was built for some seconds."""

    seconds: float


def search(
    kernel: Compute, target: Target, trials: int, seconds: float, seed: int = 0, measure: Measure | None = None
) -> list[tuple[Variant, float]]:
    """The fastest schedules that are found and their seconds, the best first; at most ``KEPT``. See ``explore``."""
    found = list(explore(kernel, target, trials, seconds, seed, measure))
    return sorted(found, key=lambda trial: trial[1])[:KEPT]


def looked_further(
    kernel: Compute,
    constants: frozenset[str],
    target: Target,
    trials: int,
    seconds: float,
    stop: Event,
    layout: Layout = space.ROW_MAJOR,
    measure: Measure | None = None,
) -> list[space.Variant]:
    """The fastest schedules as variants to be judged and measured; see ``space.Search``. None where nothing can be scheduled.

    ``measure``: see ``explore``.
    """
    found: list[tuple[Variant, float]] = []
    try:
        for trial in explore(kernel, target, trials, seconds, measure=measure, layout=layout):
            found.append(trial)
            if stop.is_set():
                break
    except Failed:
        return []
    fastest = sorted(found, key=lambda trial: trial[1])[:KEPT]
    return [space.Variant(variant) for variant, _ in fastest]


def explore(
    kernel: Compute,
    target: Target,
    trials: int,
    seconds: float,
    seed: int = 0,
    measure: Measure | None = None,
    layout: Layout = space.ROW_MAJOR,
) -> Iterator[tuple[Variant, float]]:
    """Schedules of a kernel and their seconds, as they are tried: at most ``trials`` of them, for at most ``seconds`` seconds.

    On a device one that is known without a search comes first. It is no trial.

    ``measure`` times candidates; without one they are built and timed here. Failed, before anything is found, where the kernel
    has no form that can be scheduled or the search cannot start.
    """
    deadline = time.monotonic() + seconds
    explorer = Worker("codegen.tune.exploring", memory_bytes=16 * GIB)
    own = None if measure else _Trials(kernel, target, layout, deadline)
    times: Measure = measure or own  # type: ignore[assignment]
    tried = 0
    results: tuple[float | None, ...] = ()
    try:
        known = _variants(_ask(explorer, Begin(kernel, target, trials, min(BATCH, trials), seed), deadline))
        yield from _working(known, times(known) if known else [])
        while tried < trials:
            try:
                variants = _variants(_ask(explorer, Propose(results), deadline))
            except Failed:
                if not tried:
                    raise
                return
            if not variants:
                return
            results = tuple(times(variants))
            tried += len(variants)
            yield from _working(variants, results)
            if time.monotonic() >= deadline:
                return
    finally:
        explorer.stop()
        if own is not None:
            own.stop()


def _variants(texts: Sequence[str]) -> list[Variant]:
    return [{"metaschedule": text} for text in texts]


def _working(variants: Sequence[Variant], seconds: Sequence[float | None]) -> list[tuple[Variant, float]]:
    """Those that ran, with their times."""
    return [(variant, taken) for variant, taken in zip(variants, seconds, strict=True) if taken is not None]


def processes(target: Target) -> int:
    """How many processes work at the same time, here."""
    return target.threads if isinstance(target, CpuTarget) else min(_DEVICE_BUILDERS, available_threads())


def _ask(worker: Worker, request: Begin | Propose, deadline: float) -> list[str]:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise Failed("the time is over")
    kind, reply = worker.ask(request, remaining)
    if kind != "done":
        raise Failed(str(reply))
    return list(reply)


class _Trials:
    """Builds candidates at once and times them in turns, in processes that are started again after one died."""

    def __init__(self, kernel: Compute, target: Target, layout: Layout, deadline: float) -> None:
        self.kernel, self.target, self.layout, self.deadline = kernel, target, layout, deadline
        self.workers = [Worker(_TRYING[target.kind], memory_bytes=16 * GIB) for _ in range(processes(target))]
        self.threads = ThreadPoolExecutor(len(self.workers))

    def __call__(self, variants: Sequence[Variant]) -> list[float | None]:
        results: list[float | None] = []
        together = len(self.workers)
        for start in range(0, len(variants), together):
            group = variants[start : start + together]
            built = list(self.threads.map(self._build, self.workers, group))
            results += [
                self._reply(worker, Time(_TIMED), _RUNNING) if good else None
                for worker, good in zip(self.workers, built, strict=False)
            ]
        return results

    def stop(self) -> None:
        """Ends the processes."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            worker.stop()

    def _build(self, worker: Worker, variant: Variant) -> bool:
        return self._reply(worker, Build(self.kernel, self.target, variant, self.layout), _BUILDING) is not None

    def _reply(self, worker: Worker, request: Build | Time, limit: float) -> float | None:
        remaining = min(limit, self.deadline - time.monotonic())
        if remaining <= 0:
            return None
        try:
            kind, reply = worker.ask(request, remaining)
        except Failed:
            return None
        if kind == "broken":
            worker.stop()
        return float(reply) if kind == "done" else None
