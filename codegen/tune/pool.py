"""Measuring processes side by side: each builds variants of a kernel of its own, and one of those here times at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from signal import SIG_BLOCK, SIGINT, pthread_sigmask
from threading import Event, Lock, Thread
from typing import Any, Protocol

from codegen.tune.gains import PART, Waiting, scale_of
from codegen.tune.kernels import ProgramKernel
from codegen.tune.session import LOSSES, Measured, Session, Trial
from codegen.tune.space import DEFAULT, Variant
from codegen.tune.tuned import TunedKernel
from tensoropt.isolated import Lost
from tensoropt.quiet import Quiet

_TIMED_SECONDS = 0.25
"""How long the variants of a kernel are timed together."""
_TICK_SECONDS = 0.1
_TOGETHER_BYTES = 1 << 30
"""What the weights of variants that are built together may take, which each has packed in its own way."""


@dataclass(frozen=True, slots=True)
class Request:
    """What tuning is asked for.

    ``trials`` is how many variants of a kernel are measured at the most, ``deadline`` a value of ``time.monotonic``. Without
    ``thorough`` it ends when what is left does not matter, and kernels without variants are not measured.
    """

    trials: int
    deadline: float | None = None
    thorough: bool = False

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline


class Store(Protocol):
    """Where measurements are kept, as ``records.Records`` keeps them."""

    def write(self, kernel: str, entries: Mapping[str, dict[str, Any]]) -> None:
        """Keeps entries of a kernel by variant."""
        ...


class Pool:
    """Threads with a measuring process each, which take variants of the kernel where these are expected to save most.

    What is left is not begun where it is estimated to take less than ``negligible`` seconds of a run of the program.
    """

    def __init__(
        self,
        kernels: Sequence[TunedKernel],
        request: Request,
        records: Store,
        stop: Event,
        quiet: Quiet,
        negligible: float = 0.0,
    ) -> None:
        self.stopped = ""
        """What ended it early: "time", "interrupt", "devices" (none was left), or nothing."""
        self.given_up: list[str] = []
        """Kernels during whose measuring device after device was lost."""
        self._request, self._records, self._negligible = request, records, negligible
        self._stop, self._quiet = stop, quiet
        self._kernels = kernels
        self._waiting = [Waiting.of(tuned, _together(tuned)) for tuned in kernels if tuned.missing]
        self._trials = sum(waiting.trials for waiting in self._waiting)
        self._done = 0
        self._name = ""
        self._is_deserted = False
        """Whether a session had nothing to measure on any more."""
        self._losses: Counter[str] = Counter()
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
        if self._is_deserted and self._waiting:
            self.stopped = self.stopped or "devices"

    def _stop_all(self, sessions: list[Session], threads: list[Thread]) -> None:
        while any(thread.is_alive() for thread in threads):
            self.stopped = self.stopped or "interrupt"
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
                while (waiting := self._next(session)) is not None and not session.abandoned:
                    self._measure(session, waiting)
        except BaseException as error:  # told to whoever waits for the threads
            self._errors.append(error)
        finally:
            session.worker.stop()

    def _next(self, session: Session) -> Waiting | None:
        """The next kernel, once there is something to measure it on."""
        if not session.ready(lambda: bool(self._waiting) and not self._request.is_late):
            self._is_deserted = True
            return None
        with self._lock:
            left = sum(waiting.tuned.kernel.weight for waiting in self._waiting)
            if not self._waiting or left < self._negligible:
                return None
            if self._request.is_late:
                self.stopped = "time"
                return None
            scale = scale_of(self._kernels)
            waiting = max(self._waiting, key=lambda waiting: waiting.saving(scale))  # of equal ones the first
            self._waiting.remove(waiting)
            self._name = waiting.tuned.kernel.uses[0].output.name
            return waiting

    def _measure(self, session: Session, waiting: Waiting) -> None:
        """Measures the next part of a kernel beside the default, and leaves the rest, or what was lost, to whoever comes next."""
        tuned, part = waiting.tuned, waiting.parts[0]
        default = next((variant for variant in tuned.variants if variant.key == DEFAULT.key), DEFAULT)
        before = tuned.best_seconds
        try:
            self._measure_some(session, tuned, [default, *part])
        except Lost:
            lost = True
        else:
            lost = False
            del waiting.parts[0]
            waiting.learn(before)
        key = tuned.kernel.key
        with self._lock:
            self._losses[key] = self._losses[key] + 1 if lost else 0
            self._done += 0 if lost else max(1, len(part))
            if self._losses[key] == LOSSES:
                self.given_up.append(tuned.kernel.uses[0].output.name)
            elif waiting.parts:
                self._waiting.append(waiting)

    def _measure_some(self, session: Session, tuned: TunedKernel, tried: list[Variant]) -> None:
        outcomes = session.measure(trials(tuned.kernel, tried), _TIMED_SECONDS, lambda: self._request.is_late)
        if session.abandoned:
            return
        entries = {
            variant.key: {**entry, **variant.noted}
            for variant, outcome in zip(tried, outcomes, strict=True)
            if (entry := entry_of(outcome, outcomes[0])) is not None
        }
        if "failed" in entries.get(DEFAULT.key, {}) and tuned.default_seconds is not None:
            del entries[DEFAULT.key]  # it worked before
        self._records.write(tuned.kernel.key, entries)
        tuned.entries |= entries


def _together(tuned: TunedKernel) -> int:
    """How many variants of a kernel are measured at once beside its default."""
    weights = sum(tensor.type.bytes for tensor in tuned.kernel.kernel.inputs)
    return max(1, min(PART, _TOGETHER_BYTES // max(1, weights) - 1))


def trials(kernel: ProgramKernel, variants: Sequence[Variant]) -> list[Trial]:
    """What is built and timed of a kernel's variants."""
    name, alternative = kernel.kernel.output.name, kernel.alternative()
    return [
        Trial(alternative, {name: one.parameters} if one.parameters else {}, one.growth, kernel.layout)
        for one in variants
    ]


def entry_of(outcome: Measured, default: Measured) -> dict[str, Any] | None:
    """What the database keeps of a variant; None where nothing was found out."""
    if outcome.cost.source != "measured":
        unknown = outcome.late and (outcome is default or "longer than" not in outcome.cost.reason)
        return None if unknown else {"failed": outcome.cost.reason}
    beside = default.cost.seconds if default.cost.source == "measured" else None
    clocks = {"clocks": [dict(one) for one in outcome.clocks]} if outcome.clocks else {}
    return {
        "seconds": outcome.cost.seconds,
        "default_seconds": beside,
        "workspace": outcome.cost.workspace_bytes,
        "schedule": ", ".join(outcome.schedules),
        **clocks,
    }
