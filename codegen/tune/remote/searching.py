"""MetaSchedule for the devices of a network: schedules are proposed on this machine, and measured there as every variant is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from threading import Event
from typing import Any

from codegen.targets.parsing import Target
from codegen.tune import metaschedule
from codegen.tune.gains import PART
from codegen.tune.kernels import ProgramKernel
from codegen.tune.layout import Layout
from codegen.tune.pool import Pool, Request
from codegen.tune.session import Session
from codegen.tune.space import DEFAULT, ROW_MAJOR, Variant
from codegen.tune.tuned import TunedKernel
from tensoropt.ir.program import Compute
from tensoropt.isolated import Failed, Lost
from tensoropt.quiet import Quiet


@dataclass(frozen=True, slots=True)
class SearchElsewhere:
    """A ``space.Search``. ``session`` makes what measures on one device, of which as many are asked for as have candidates.

    Candidates are judged and timed beside the kernel's default, on whichever device is free, so that times of several devices
    compare. They are not stored: the fastest are variants, and measured once more as such. Lost where no device is left.
    """

    session: Callable[[], Session]

    def __call__(
        self,
        kernel: Compute,
        constants: frozenset[str],
        target: Target,
        trials: int,
        seconds: float,
        stop: Event,
        layout: Layout = ROW_MAJOR,
    ) -> list[Variant]:
        """See ``space.Search``."""
        whole = ProgramKernel(f"searched: {kernel.output.name}", kernel, constants, (kernel,), 1.0, layout)
        measuring = _Measuring(whole, self.session, Request(trials, time.monotonic() + seconds, thorough=True), stop)
        return metaschedule.looked_further(kernel, constants, target, trials, seconds, stop, layout, measuring)


class _Forgetful:
    """Where a pool's measurements are not kept."""

    def write(self, kernel: str, entries: Mapping[str, dict[str, Any]]) -> None:
        """See ``pool.Store``."""


class _Measuring:
    """A ``metaschedule.Measure`` of one kernel."""

    def __init__(self, kernel: ProgramKernel, session: Callable[[], Session], request: Request, stop: Event) -> None:
        self._kernel, self._session, self._request, self._stop = kernel, session, request, stop
        self._default: float | None = None
        """Seconds of the default, on the scale of which all are told."""

    def __call__(self, variants: Sequence[metaschedule.Variant]) -> list[float | None]:
        asked = [Variant(variant) for variant in variants]
        parts = [
            TunedKernel(self._kernel, [DEFAULT, *asked[first : first + PART]], {})
            for first in range(0, len(asked), PART)
        ]
        pool = Pool(parts, self._request, _Forgetful(), self._stop, Quiet())
        pool.run([self._session() for _ in parts], lambda share, detail: None)
        if pool.stopped == "devices":
            raise Lost("there is no device left")
        if self._stop.is_set():
            raise Failed("it was ended")
        defaults = [part.default_seconds for part in parts if part.default_seconds]
        if self._default is None and defaults:
            self._default = median(defaults)
        return [self._seconds(part, one) for part in parts for one in part.variants[1:]]

    def _seconds(self, part: TunedKernel, candidate: Variant) -> float | None:
        """What a candidate takes; None where it failed, or was not reached."""
        taken, default = part.seconds(candidate.key), part.default_seconds
        return taken / default * self._default if taken and default and self._default else None
