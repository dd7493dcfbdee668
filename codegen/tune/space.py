"""What can be tried for a kernel: the one place that knows which schedule parameters there are.

A variant is plain data that ``codegen.lower.kernel.lower`` takes; how it is built, judged, timed and stored does not depend on
what it says. Other kinds of parameters join ``variants``; what a ``Search`` finds is a ``Variant`` too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from codegen.lower import device
from codegen.lower.kernel import lower
from codegen.targets.cpu import CpuTarget
from codegen.targets.gpu import GpuTarget
from codegen.targets.parsing import Target
from codegen.tune.layout import Layout
from tensoropt.ir.program import Compute


@dataclass(frozen=True, slots=True)
class Variant:
    """Schedule parameters of one kernel; none are the schedule that is taken without tuning.

    ``growth`` is how many times the usual rounding the variant may show, for one that multiplies by other numbers than the
    expression does (Winograd); None for one that sums the same products in another order: its results are the same bits
    wherever sums are exact.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    growth: float | None = None

    @property
    def key(self) -> str:
        """The parameters as text, which the database keeps; ``json.loads`` gives them back."""
        return json.dumps(dict(self.parameters), sort_keys=True)


DEFAULT = Variant()
ROW_MAJOR = Layout()
TEMPLATES = 24
"""Ways to cut a kernel that are ranked high enough to be measured; who wants more has them searched for."""

Search = Callable[[Compute, frozenset[str], CpuTarget, int, float, Event], list[Variant]]
"""(kernel, its known tensors, target, trials, seconds, a wish to end) → variants that looked good, to be judged and measured."""

Space = Callable[[Compute, frozenset[str], Target, int, Layout], list[Variant]]
"""(kernel, its tensors that are known when it is compiled, target, how many at the most, how they lie) → variants, the default
first."""


def variants(
    kernel: Compute, constants: frozenset[str], target: Target, most: int, layout: Layout = ROW_MAJOR
) -> list[Variant]:
    """The variants of a kernel, the default first and then the most promising by the analytic model; see ``Space``."""
    if isinstance(target, GpuTarget):
        return _for_device(kernel, constants, target, most, layout)
    found = [DEFAULT]
    lowered = lower(kernel.output, kernel.expression, target, constants)
    for kind in ("contraction", "filtering"):
        if any(name.startswith(kind) for name in lowered.schedules):
            found += [Variant({kind: number}) for number in range(1, min(most, TEMPLATES))]
    return found


def _for_device(
    kernel: Compute, constants: frozenset[str], target: GpuTarget, most: int, layout: Layout
) -> list[Variant]:
    """One parameter at a time away from the default, those with a better number first."""
    choices = lowered_for_device(kernel, constants, target, layout).choices
    found = [DEFAULT]
    for number in range(1, max(choices.values(), default=0)):
        found += [Variant({name: number}) for name, count in choices.items() if number < count]
    return found[: max(1, most)]


def lowered_for_device(
    kernel: Compute,
    constants: frozenset[str],
    target: GpuTarget,
    layout: Layout,
    parameters: Mapping[str, Any] | None = None,
) -> device.DeviceKernel:
    """The kernel as it is part of a program for a device."""
    read = {tensor.name for tensor in kernel.inputs}
    known = {name: multiple for name, multiple in layout.alignments if name in read or name == kernel.output.name}
    return device.lower(kernel.output, kernel.expression, target, constants, parameters, layout.strides, known)
