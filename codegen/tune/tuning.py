"""Tuning: the variants of each kernel of a program built side by side, timed one at a time, and the fastest kept.

Kernels come in the order of their share of the time, so whatever ends tuning early leaves the least important as they are. What
is measured is in the database when it is told, and is not measured again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from signal import SIG_BLOCK, SIGINT, pthread_sigmask
from threading import Event, Lock, Thread
from typing import Any

from codegen.lower.kernel import lower
from codegen.targets.cpu import CpuTarget
from codegen.tune.kernels import ProgramKernel, distinct_kernels, numbered_kernel
from codegen.tune.records import Records
from codegen.tune.session import Measured, Session, Trial
from codegen.tune.space import DEFAULT, Space, Variant, variants
from tensoropt.ir.program import Program
from tensoropt.plan_types import Plan
from tensoropt.quiet import Quiet

TRIALS = {"off": 1, "fast": 6, "full": 24}
"""How many variants of a kernel are timed, by the tuning that was asked for."""
FAST_SECONDS = 150.0
"""What fast tuning may take for any model: three minutes are allowed, and the last kernel may be begun just before the end."""
MARGIN = 0.02
"""The share by which a variant must beat the default: timings beside one another differ by as much without a reason."""

_NEGLIGIBLE = 0.02
"""Fast tuning ends when what is left is estimated to take this share of the time."""
_BUILDERS = 2
"""Processes at the most: each takes some hundred MB, and timing holds all others."""
_TIMED_SECONDS = 0.25
"""How long the variants of a kernel are timed together."""
_TICK_SECONDS = 0.1
_TOGETHER = 8
"""Variants that are built, and stored, together at the most."""
_TOGETHER_BYTES = 1 << 30
"""What their weights may take, which each has packed in its own way."""


@dataclass(frozen=True, slots=True)
class Request:
    """What tuning is asked for.

    ``trials`` is how many variants of a kernel are measured at the most, ``deadline`` a value of ``time.monotonic``. Without
    ``thorough`` it ends when what is left does not matter, and kernels without variants are not measured.
    """

    trials: int
    deadline: float | None = None
    thorough: bool = False

    @staticmethod
    def of(effort: str, deadline: float | None) -> Request:
        """What ``--tune`` asks for; ``deadline`` is that of the user's time limit, None where there is none."""
        if effort == "fast":
            limit = time.monotonic() + FAST_SECONDS
            deadline = limit if deadline is None else min(limit, deadline)
        return Request(TRIALS[effort], deadline)


@dataclass(slots=True)
class TunedKernel:
    """A kernel, and what is known of its variants: an entry for each, by the variant's key."""

    kernel: ProgramKernel
    variants: list[Variant]
    entries: dict[str, dict[str, Any]]

    @property
    def missing(self) -> list[Variant]:
        """The variants that nothing is known of."""
        return [variant for variant in self.variants if variant.key not in self.entries]

    @property
    def best(self) -> str:
        """The key of the fastest variant; the default's where none beats it by the margin."""
        return min(self.entries, key=self._rank, default=DEFAULT.key) if self.default_seconds else self._any()

    @property
    def default_seconds(self) -> float | None:
        """The default's time; None where it was not measured, or failed."""
        return _seconds(self.entries.get(DEFAULT.key))

    @property
    def best_seconds(self) -> float | None:
        """The best variant's time, on the scale of the default's."""
        default = self.default_seconds
        return default * self._ratio(self.best) if default else _seconds(self.entries.get(self.best))

    def _ratio(self, key: str) -> float:
        """How long a variant takes as a share of the default, which was timed beside it."""
        if key == DEFAULT.key:
            return 1.0
        seconds, beside = _seconds(self.entries[key]), _seconds(self.entries[key], "default_seconds")
        return seconds / beside if seconds and beside else float("inf")

    def _rank(self, key: str) -> float:
        return self._ratio(key) + (0.0 if key == DEFAULT.key else MARGIN)

    def _any(self) -> str:
        """The fastest variant where the default does not work."""
        seconds = {key: found for key, entry in self.entries.items() if (found := _seconds(entry))}
        return min(seconds, key=seconds.__getitem__, default=DEFAULT.key)

    def as_json(self, total: float) -> dict[str, Any]:
        """What is told of the kernel; ``total`` is the seconds of all kernels, for its share."""
        default, best = self.default_seconds, self.best_seconds
        uses = self.kernel.uses
        failures = {key: str(entry["failed"]) for key, entry in self.entries.items() if "failed" in entry}
        return {
            "kernel": uses[0].output.name,
            "origin": list(uses[0].origin),
            "outputs": [statement.output.name for statement in uses],
            "share": (default or self.kernel.estimate) * len(uses) / total if total else 0.0,
            "default_ms": None if default is None else default * 1e3,
            "tuned_ms": None if best is None else best * 1e3,
            "variant": json.loads(self.best),
            "schedule": str(self.entries.get(self.best, {}).get("schedule", "")),
            "measured": sum(_seconds(entry) is not None for entry in self.entries.values()),
            "failed": failures,
        }


@dataclass(slots=True)
class Tuning:
    """What tuning found. ``stopped`` says what ended it early: "time", "interrupt", or nothing."""

    kernels: list[TunedKernel] = field(default_factory=list)
    variants: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Schedule parameters by the name of a statement's output, for ``compile_program``."""
    stopped: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` tells of it; times in milliseconds, of all kernels together."""
        total = sum((tuned.default_seconds or tuned.kernel.estimate) * len(tuned.kernel.uses) for tuned in self.kernels)
        known = [(tuned, tuned.default_seconds, tuned.best_seconds) for tuned in self.kernels]
        known = [entry for entry in known if entry[1] is not None and entry[2] is not None]
        return {
            "kernels": [tuned.as_json(total) for tuned in self.kernels],
            "before_ms": sum((default or 0.0) * len(tuned.kernel.uses) for tuned, default, _ in known) * 1e3,
            "after_ms": sum((best or 0.0) * len(tuned.kernel.uses) for tuned, _, best in known) * 1e3,
            "stopped": self.stopped,
            "seconds": self.seconds,
        }


def tune_program(
    program: Program,
    plan: Plan,
    target: CpuTarget,
    records: Records,
    request: Request,
    *,
    quiet: Quiet | None = None,
    progress: Callable[[float, str], None] = lambda share, detail: None,
    stop: Event | None = None,
    space: Space = variants,
    session: Callable[[], Session] | None = None,
) -> Tuning:
    """The fastest known variant of every kernel of the program, measured where nothing is known.

    ``stop`` ends it at once when it is set; ``session`` makes a measuring process.
    """
    tuning = Tuning()
    if request.trials <= 1 and not request.thorough:
        return tuning
    started = time.monotonic()
    quiet = quiet or Quiet()
    kernels = distinct_kernels(program, plan, target)
    total = sum(kernel.weight for kernel in kernels)
    for kernel in kernels:
        found = space(kernel.kernel, kernel.constants, target, request.trials)
        if len(found) > 1 or request.thorough:
            tuning.kernels.append(TunedKernel(kernel, found, records.read(kernel.key)))
    pool = _Pool(tuning, request, records, total, stop or Event(), quiet)
    make = session or (lambda: Session(target, quiet=quiet))
    pool.run([make() for _ in range(min(_BUILDERS, target.threads, pool.jobs))], progress)
    tuning.variants = _chosen(tuning, program, target, request.trials)
    tuning.seconds = time.monotonic() - started
    return tuning


class _Pool:
    """Threads with a measuring process each, which take kernels in order."""

    def __init__(
        self, tuning: Tuning, request: Request, records: Records, total: float, stop: Event, quiet: Quiet
    ) -> None:
        self._tuning, self._request, self._records, self._total = tuning, request, records, total
        self._stop, self._quiet = stop, quiet
        self._waiting = [tuned for tuned in tuning.kernels if tuned.missing]
        self._trials = sum(len(tuned.missing) for tuned in self._waiting)
        self._done = 0
        self._name = ""
        self._lock = Lock()
        self._errors: list[BaseException] = []

    @property
    def jobs(self) -> int:
        """Kernels that are not begun."""
        return len(self._waiting)

    def run(self, sessions: list[Session], progress: Callable[[float, str], None]) -> None:
        """Tunes all kernels, or those for which there is time. What a thread dies of is raised here."""
        threads = [Thread(target=self._serve, args=(session,), daemon=True) for session in sessions]
        started = time.monotonic()
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(_TICK_SECONDS / len(threads))
                progress(self._share(time.monotonic() - started), self._name)
                if self._stop.is_set() or self._errors:
                    break
        finally:  # also where an interrupt leaves from here
            self._stop_all(sessions, threads)
        if self._errors:
            raise self._errors[0]

    def _stop_all(self, sessions: list[Session], threads: list[Thread]) -> None:
        while any(thread.is_alive() for thread in threads):
            self._tuning.stopped = self._tuning.stopped or "interrupt"
            for session in sessions:
                session.abandon()
            for thread in threads:
                thread.join(_TICK_SECONDS)

    def _share(self, elapsed: float) -> float:
        """The share that is done: of the work, or of the time there is where that ends first."""
        done = max(self._done / self._trials, 1e-3)
        whole = elapsed / done
        if self._request.deadline is not None:
            whole = min(whole, elapsed + max(0.0, self._request.deadline - time.monotonic()))
        return min(1.0, elapsed / whole) if whole else 1.0

    def _serve(self, session: Session) -> None:
        """What a thread does. Interrupts are left to the main thread."""
        pthread_sigmask(SIG_BLOCK, {SIGINT})
        try:
            with self._quiet.pausing(session):
                while (tuned := self._next()) is not None and not session.abandoned:
                    count = len(tuned.missing)
                    self._measure(session, tuned)
                    self._done += count
        except BaseException as error:  # told to whoever waits for the threads
            self._errors.append(error)
        finally:
            session.worker.stop()

    def _next(self) -> TunedKernel | None:
        with self._lock:
            left = sum(tuned.kernel.weight for tuned in self._waiting)
            if not self._waiting or (not self._request.thorough and left < _NEGLIGIBLE * self._total):
                return None
            if self._is_late():
                self._tuning.stopped = "time"
                return None
            tuned = self._waiting.pop(0)
            self._name = tuned.kernel.uses[0].output.name
            return tuned

    def _is_late(self) -> bool:
        return self._request.deadline is not None and time.monotonic() > self._request.deadline

    def _measure(self, session: Session, tuned: TunedKernel) -> None:
        """Measures what is missing, some at a time beside the default, and stores each time what was found out."""
        missing = [variant for variant in tuned.missing if variant.key != DEFAULT.key]
        weights = sum(tensor.type.bytes for tensor in tuned.kernel.kernel.inputs)
        size = max(1, min(_TOGETHER, _TOGETHER_BYTES // max(1, weights)) - 1)
        for first in range(0, max(1, len(missing)), size):
            if session.abandoned or (first and self._is_late()):
                return
            self._measure_some(session, tuned, [DEFAULT, *missing[first : first + size]])

    def _measure_some(self, session: Session, tuned: TunedKernel, tried: list[Variant]) -> None:
        name, alternative = tuned.kernel.kernel.output.name, tuned.kernel.alternative()
        trials = [
            Trial(alternative, {name: variant.parameters} if variant.parameters else {}, variant.growth)
            for variant in tried
        ]
        outcomes = session.measure(trials, _TIMED_SECONDS, self._is_late)
        if session.abandoned:
            return
        entries = {
            variant.key: entry
            for variant, outcome in zip(tried, outcomes, strict=True)
            if (entry := _entry(outcome, outcomes[0])) is not None
        }
        if "failed" in entries.get(DEFAULT.key, {}) and tuned.default_seconds is not None:
            del entries[DEFAULT.key]  # it worked before
        self._records.write(tuned.kernel.key, entries)
        tuned.entries |= entries


def _entry(outcome: Measured, default: Measured) -> dict[str, Any] | None:
    """What the database keeps of a variant; None where nothing was found out."""
    if outcome.cost.source != "measured":
        unknown = outcome.late and (outcome is default or "longer than" not in outcome.cost.reason)
        return None if unknown else {"failed": outcome.cost.reason}
    beside = default.cost.seconds if default.cost.source == "measured" else None
    return {
        "seconds": outcome.cost.seconds,
        "default_seconds": beside,
        "workspace": outcome.cost.workspace_bytes,
        "schedule": ", ".join(outcome.schedules),
    }


def _seconds(entry: Mapping[str, Any] | None, name: str = "seconds") -> float | None:
    """A time of an entry; None where it has none, or none that can be."""
    value = entry.get(name) if entry else None
    return value if isinstance(value, float) and 0 < value < float("inf") else None


def _chosen(tuning: Tuning, program: Program, target: CpuTarget, trials: int) -> dict[str, Mapping[str, Any]]:
    """The best variant for each statement, by the name of its output, where that is not the default."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for tuned in tuning.kernels:
        if tuned.best == DEFAULT.key:
            continue
        parameters = json.loads(tuned.best)
        for statement in tuned.kernel.uses:
            kernel, constants = numbered_kernel(statement, program)
            if kernel.expression is not tuned.kernel.kernel.expression:
                # equal up to the order of its terms, in which the same parameters may mean another schedule
                names = lower(kernel.output, kernel.expression, target, constants, parameters).schedules
                if ", ".join(names) != tuned.entries[tuned.best].get("schedule"):
                    continue
            chosen[statement.output.name] = parameters
    return chosen
