"""Measures the kernels that the cost model learns from: variants built once and timed twice, in processes side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

from codegen.schedules.context import Offer
from codegen.targets.cpu import host_target
from codegen.targets.parsing import Target, parse_target
from codegen.tune.database import Database
from codegen.tune.learned.features import described
from codegen.tune.learned.stored import noted
from codegen.tune.pool import entry_of, trials
from codegen.tune.records import Records
from codegen.tune.requests import Time
from codegen.tune.session import MEASURING, Session, physical_bytes
from codegen.tune.space import Variant, variants
from examples.cost_kernels import Learnt, kernels
from tensoropt.isolated import Worker
from tensoropt.quiet import Quiet

FIRST = 6
"""Variants that the analytic estimate puts first, the default among them, which are all measured."""
OTHERS = 18
"""And as many of all others, chosen at random."""
PROCESSES = 2
"""One builds while another times."""
_TIMED_SECONDS = 0.75
"""How long the variants of a kernel are timed together, each of two times."""
_EVERYTHING = 1 << 30


class TwiceTimed(Worker):
    """A measuring process that times whatever it is asked to a second time: what does not agree says little."""

    def __init__(self, module: str) -> None:
        super().__init__(module, memory_bytes=physical_bytes())
        self.again: dict[int, float] = {}
        """The second seconds of a trial, by its number."""

    def ask(self, request: Any, timeout: float | None = None) -> tuple[str, Any]:
        """See ``Worker``; what is told is the first time."""
        kind, result = super().ask(request, timeout)
        if isinstance(request, Time) and kind == "timed":
            second, (times, _) = super().ask(request, timeout)
            if second == "timed":
                self.again |= dict(zip(request.numbers, (seconds for seconds, _ in times), strict=True))
        return kind, result


def collect(target_name: str, db: Path, kernels_file: Path, seconds: float) -> str:
    """Measures kernel after kernel until the time is over, and says how far that came."""
    cpu = host_target()
    target = cpu if target_name == "cpu" else parse_target(target_name)
    quiet, turn = Quiet(), Lock()
    with Database(db) as database:
        records = Records(database, target)
        missing = (
            learnt
            for learnt in kernels(kernels_file, cpu)
            if not any("again" in entry for entry in records.read(learnt.kernel.key).values())
        )
        deadline = time.monotonic() + seconds

        def upcoming() -> Learnt | None:
            with turn:
                return next(missing, None) if time.monotonic() < deadline else None

        def serve() -> int:
            worker = TwiceTimed(MEASURING[target.kind])
            session, done = Session(target, worker, quiet), 0
            try:
                with quiet.pausing(session):
                    for learnt in iter(upcoming, None):
                        entries = measured(learnt, session, worker)
                        records.write(learnt.kernel.key, entries)
                        done += bool(entries)
            finally:
                worker.stop()
            return done

        with ThreadPoolExecutor(PROCESSES) as threads:
            done = sum(one.result() for one in [threads.submit(serve) for _ in range(PROCESSES)])
        return f"{done} kernels measured; {db} has {database.size()[0]} measurements"


def measured(learnt: Learnt, session: Session, worker: TwiceTimed) -> dict[str, dict[str, Any]]:
    """An entry of the database for each variant of a kernel that was found out about; none where there is one variant."""
    listed, kernel = list(_listed(learnt, session.target)), learnt.kernel
    if len(listed) < 2:
        return {}
    worker.again.clear()
    outcomes = session.measure(trials(kernel, listed), _TIMED_SECONDS)
    found = {}
    for number, (variant, outcome) in enumerate(zip(listed, outcomes, strict=True)):
        entry = entry_of(outcome, outcomes[0])
        if entry is not None:
            again = {"again": worker.again[number]} if number in worker.again else {}
            found[variant.key] = {**entry, **variant.noted, **again, "origin": learnt.model}
    return found


def chosen(key: str, count: int) -> list[int]:
    """The numbers of the variants of a kernel that are measured, of so many."""
    rest = range(FIRST, count)
    return [*range(min(FIRST, count)), *Random(key).sample(rest, min(OTHERS, len(rest)))]


def _listed(learnt: Learnt, target: Target) -> Iterator[Variant]:
    """The variants to measure, with their features noted; the default first."""
    kernel = learnt.kernel
    described_as = []

    def noting(found: Sequence[Variant], offers: Sequence[Offer], on: Target) -> list[Variant]:
        described_as.append(described(offers, on))
        return list(found)

    variants(kernel.kernel, kernel.constants, target, _EVERYTHING, order=noting)
    for known in described_as:
        if known is not None:
            kind, rows = known
            for number in chosen(kernel.key, len(rows)):
                yield Variant({kind: number} if number else {}, noted=noted(rows[number]))
