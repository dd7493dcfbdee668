"""What can be tried for a kernel: the one place that knows which schedule parameters there are.

A variant is plain data that ``codegen.lower.kernel.lower`` takes; how it is built, judged, timed and stored does not depend on
what it says. Other kinds of parameters join ``variants``; what a ``Search`` finds is a ``Variant`` too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from threading import Event
from typing import Any

from codegen.libraries.offers import ways_for
from codegen.libraries.operations import NO_LIBRARIES
from codegen.lower import device
from codegen.lower.kernel import lower
from codegen.schedules.context import Offer
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
    noted: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What is kept beside its measurement."""
    promise: float | None = field(default=None, compare=False)
    """How many times faster than the default it is predicted to be, as a logarithm to the base 2; None where nothing is."""

    @property
    def key(self) -> str:
        """The parameters as text, which the database keeps; ``json.loads`` gives them back."""
        return json.dumps(dict(self.parameters), sort_keys=True)


DEFAULT = Variant()
_ANOTHER_ROUNDING = 1.0
"""The growth that is allowed to algorithms of libraries that multiply other numbers: none, as the whole model is checked so too."""
ROW_MAJOR = Layout()
TEMPLATES = 24
"""Ways to cut a kernel that are ranked high enough to be measured; who wants more has them searched for."""

Search = Callable[[Compute, frozenset[str], Target, int, float, Event, Layout], list[Variant]]
"""(kernel, its known tensors, target, trials, seconds, a wish to end, how they lie) → variants that looked good, to be judged and
measured."""

Order = Callable[[Sequence[Variant], Sequence[Offer], Target], list[Variant]]
"""(variants in the analytic order, how the kernel's stages could be cut, target) → the same, the default first and then whichever
are to be measured sooner."""

Space = Callable[[Compute, frozenset[str], Target, int, Layout], list[Variant]]
"""(kernel, its tensors that are known when it is compiled, target, how many at the most, how they lie) → variants, the default
first."""


def variants(
    kernel: Compute,
    constants: frozenset[str],
    target: Target,
    most: int,
    layout: Layout = ROW_MAJOR,
    order: Order | None = None,
    libraries: Mapping[str, str] = NO_LIBRARIES,
) -> list[Variant]:
    """The variants of a kernel, the default first and then the most promising; see ``Space``.

    That is by the analytic model unless there is another ``order``, which sees all that there are before they are cut off.
    ``libraries`` are those that may be called, and their versions; their ways to compute the kernel alternate with ours.
    """
    if isinstance(target, GpuTarget):
        device_kernel = lowered_for_device(kernel, constants, target, layout)
        counts, offers = device_kernel.choices, device_kernel.offers
    else:
        offers = lower(kernel.output, kernel.expression, target, constants).offers
        counts = {offer.kind: max(len(one.cuts) for one in offers if one.kind == offer.kind) for offer in offers}
        most = min(most, TEMPLATES)
    # one parameter at a time away from the default: better numbers first, of these the parameters that leave most to be chosen
    found, names = [DEFAULT], sorted(counts, key=counts.__getitem__, reverse=True)
    for number in range(1, max(counts.values(), default=0)):
        found += [Variant({name: number}) for name in names if number < counts[name]]
    if order is not None:
        found = order(found, offers, target)
    if isinstance(target, GpuTarget) and target.kind == "cuda":
        called = [
            Variant(way.parameters, _ANOTHER_ROUNDING if way.transformed else None)
            for way in ways_for(kernel, layout.strides, layout.start, libraries)
        ]
        found = [DEFAULT, *(one for pair in zip_longest(called, found[1:]) for one in pair if one is not None)]
    return found[: max(1, most)]


def is_usable(key: str, libraries: Mapping[str, str]) -> bool:
    """Whether a variant, by its key, calls no library, or one of these versions: another's way of the same name is another one."""
    if '"library"' not in key:
        return True
    parameters = json.loads(key)
    return bool(libraries.get(parameters["library"]) == parameters["version"])


def with_known(listed: Sequence[Variant], entries: Mapping[str, Mapping[str, Any]]) -> list[Variant]:
    """The list, where other variants that are known already take the place of the last that are not; ``entries`` by key.

    An order that learns lists others from time to time: a kernel that has had its trials is not measured again for that.
    """
    keys = {variant.key for variant in listed}
    others = [Variant(json.loads(key)) for key, entry in entries.items() if key not in keys and _was_tried(key, entry)]
    found = list(listed)
    for place in reversed(range(1, len(found))):
        if others and found[place].key not in entries:
            found[place] = others.pop(0)
    return found


def _was_tried(key: str, entry: Mapping[str, Any]) -> bool:
    """Whether an entry is of a variant that ``variants`` lists: others are found by a search, or tell of one."""
    return key.startswith("{") and "metaschedule" not in key and ("seconds" in entry or "failed" in entry)


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
