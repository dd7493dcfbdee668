"""What the measuring process is asked for. A module of its own, so that both processes know the same classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codegen.targets.parsing import Target
from codegen.tune.layout import Layout
from tensoropt.cost import Alternative


@dataclass(frozen=True, slots=True)
class Build:
    """Compile an alternative. The reply is (workspace in bytes, names of the schedules, digests of the kernels).

    ``variants`` gives schedule parameters by the name of a kernel's output. Inputs are integers of at most ``largest`` in
    absolute value, or standard normal numbers where that is None. The process may take ``memory_bytes`` more than it has. On a
    device the alternative's tensors lie as ``layout`` says.
    """

    number: int
    alternative: Alternative
    target: Target
    memory_bytes: int
    largest: int | None = None
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True, slots=True)
class Check:
    """Run what was built and judge its outputs; the first that agrees with the interpreter is what others are compared with.

    ``exact`` wants the same values, else ``growth`` times what rounding explains is allowed.
    """

    number: int
    exact: bool
    growth: float = 1.0


@dataclass(frozen=True, slots=True)
class Time:
    """Time what was built, in turns. The reply is (seconds, what is wrong with the outputs now) of each, and the device's clocks.

    The first is what the others are compared with, and is timed to the end; what is much slower than the fastest is not.
    """

    numbers: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop everything that was built."""
