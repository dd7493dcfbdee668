"""Tuning: the variants of each kernel of a program built side by side, timed one at a time, and the fastest kept.

Kernels come in the order of their share of the time, so whatever ends tuning early leaves the least important as they are. What
is measured is in the database when it is told, and is not measured again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Any

from codegen.libraries.operations import NO_LIBRARIES
from codegen.lower.kernel import lower
from codegen.lower.scheduled import ScheduleMismatch
from codegen.targets.cpu import CpuTarget, available_threads
from codegen.targets.parsing import Target
from codegen.tune.kernels import ProgramKernel, distinct_kernels, program_kernel
from codegen.tune.pool import Pool, Request
from codegen.tune.records import Records
from codegen.tune.session import Session
from codegen.tune.space import (
    DEFAULT,
    TEMPLATES,
    Search,
    Space,
    is_usable,
    lowered_for_device,
    variants,
    with_known,
)
from codegen.tune.tuned import TunedKernel, Tuning
from tensoropt.allocation import Placement
from tensoropt.ir.program import Program
from tensoropt.isolated import Lost
from tensoropt.quiet import Quiet

TRIALS = {"off": 1, "fast": 6, "full": 64}
"""How many variants of a kernel are timed, by the tuning that was asked for."""
FAST_SECONDS = 150.0
"""What fast tuning may take for any model: three minutes are allowed, and the last kernel may be begun just before the end."""

_NEGLIGIBLE = 0.02
"""Tuning that is not thorough ends when what is left is estimated to take this share of the time."""
_SEARCH_SECONDS = (60.0, 3.0)
"""What a search may take to start, and for each trial."""
_SEARCHED = "searched"
"""The row of a kernel that says for how many trials a search was made."""
_BUILDERS = 2
"""Processes at the most: each takes some hundred MB, and timing holds all others."""
_DEVICE_BUILDERS = 8
"""Of a device: each takes some hundred MB of its memory too."""


def requested(effort: str, deadline: float | None) -> Request:
    """What ``--tune`` asks for; ``deadline`` is that of the user's time limit, None where there is none."""
    if effort == "fast":
        limit = time.monotonic() + FAST_SECONDS
        deadline = limit if deadline is None else min(limit, deadline)
    return Request(TRIALS[effort], deadline)


def tune_program(
    program: Program,
    plan: Placement,
    target: Target,
    records: Records,
    request: Request,
    *,
    quiet: Quiet | None = None,
    progress: Callable[[float, str], None] = lambda share, detail: None,
    stop: Event | None = None,
    space: Space = variants,
    search: Search | None = None,
    session: Callable[[], Session] | None = None,
    builders: int | None = None,
    libraries: Mapping[str, str] = NO_LIBRARIES,
) -> Tuning:
    """The fastest known variant of every kernel of the program, measured where nothing is known.

    ``space`` lists variants, of which there are ``TEMPLATES`` where ``search`` looks for more, kernel by kernel. ``stop`` ends all
    of it at once when it is set; ``session`` makes a measuring process, of which there are ``builders`` at the most.
    What is known of variants that call libraries counts for these ``libraries`` in their versions.
    """
    tuning = Tuning()
    if request.trials <= 1 and not request.thorough:
        return tuning
    started = time.monotonic()
    quiet, stop = quiet or Quiet(), stop or Event()
    kernels = distinct_kernels(program, plan, target)
    total = sum(kernel.weight for kernel in kernels)
    for kernel in kernels:
        most = request.trials if search is None or not _is_searched(kernel) else min(request.trials, TEMPLATES)
        found = space(kernel.kernel, kernel.constants, target, most, kernel.layout)
        if len(found) > 1 or request.thorough:
            entries = {key: one for key, one in records.read(kernel.key).items() if is_usable(key, libraries)}
            tuning.kernels.append(TunedKernel(kernel, with_known(found, entries), entries))
    most = builders or _builders(target)
    make = session or (lambda: Session(target, quiet=quiet))

    def measure(some: Sequence[TunedKernel], show: Callable[[float, str], None]) -> None:
        pool = Pool(some, request, records, stop, quiet, 0.0 if request.thorough else _NEGLIGIBLE * total)
        pool.run([make() for _ in range(min(most, pool.jobs))], show)
        tuning.stopped = tuning.stopped or pool.stopped
        tuning.given_up += pool.given_up

    measure(tuning.kernels, progress)
    if search is not None:
        for number, tuned in enumerate(tuning.kernels):
            progress(number / len(tuning.kernels), tuned.kernel.uses[0].output.name)
            try:
                further = _looked_further(tuned, tuning.kernels[number:], search, target, records, request, stop)
            except Lost:
                tuning.stopped = tuning.stopped or "devices"
                break
            if further:
                measure([tuned], lambda share, detail: None)
    tuning.variants = _chosen(tuning, program, plan, target)
    tuning.seconds = time.monotonic() - started
    return tuning


def _is_searched(kernel: ProgramKernel) -> bool:
    """Whether a search can make the kernel as it lies in the program: what is found takes its tensors to be aligned."""
    return not kernel.layout.alignments


def _looked_further(
    tuned: TunedKernel,
    left: Sequence[TunedKernel],
    search: Search,
    target: Target,
    records: Records,
    request: Request,
    stop: Event,
) -> bool:
    """Whether a search found variants that are not measured yet; each of the kernels that are left gets its share of the time."""
    if not _is_searched(tuned.kernel):
        return False
    trials = request.trials - len(tuned.variants)
    if trials <= 0 or stop.is_set() or request.is_late or tuned.entries.get(_SEARCHED, {}).get("trials", 0) >= trials:
        return False
    start, each = _SEARCH_SECONDS
    seconds = start + each * trials
    if request.deadline is not None:
        share = tuned.kernel.weight / sum(other.kernel.weight for other in left)
        seconds = min(seconds, share * (request.deadline - time.monotonic()))
    tuned.variants += search(
        tuned.kernel.kernel, tuned.kernel.constants, target, trials, seconds, stop, tuned.kernel.layout
    )
    if not stop.is_set() and not request.is_late:
        tuned.entries[_SEARCHED] = {"trials": trials}
        records.write(tuned.kernel.key, {_SEARCHED: tuned.entries[_SEARCHED]})
    return bool(tuned.missing)


def _chosen(tuning: Tuning, program: Program, plan: Placement, target: Target) -> dict[str, Mapping[str, Any]]:
    """The best variant for each statement, by the name of its output, where that is not the default."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for tuned in tuning.kernels:
        if tuned.best == DEFAULT.key:
            continue
        parameters = json.loads(tuned.best)
        for statement in tuned.kernel.uses:
            own = program_kernel(statement, program, target, plan)
            if own.kernel.expression is not tuned.kernel.kernel.expression:
                # equal up to the order of its terms, in which the same parameters may mean another schedule
                try:
                    names = _schedules(own, target, parameters)
                except ScheduleMismatch:  # a schedule that was searched for is of one order
                    continue
                if ", ".join(names) != tuned.entries[tuned.best].get("schedule"):
                    continue
            chosen[statement.output.name] = parameters
    return chosen


def _schedules(one: ProgramKernel, target: Target, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    kernel = one.kernel
    if isinstance(target, CpuTarget):
        return lower(kernel.output, kernel.expression, target, one.constants, parameters).schedules
    return lowered_for_device(kernel, one.constants, target, one.layout, parameters).schedules


def _builders(target: Target) -> int:
    """How many measuring processes there are at the most. A device's work is elsewhere, so every processor builds for it."""
    return (
        min(_BUILDERS, target.threads) if isinstance(target, CpuTarget) else min(_DEVICE_BUILDERS, available_threads())
    )
