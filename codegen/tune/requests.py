"""What the measuring process is asked for. A module of its own, so that both processes know the same classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codegen.targets.cpu import CpuTarget
from tensoropt.cost import Alternative


@dataclass(frozen=True, slots=True)
class Build:
    """Compile an alternative and run it once; ``number`` 0 is the reference that the others are compared with.

    ``variants`` gives schedule parameters by the name of a kernel's output.
    """

    number: int
    alternative: Alternative
    target: CpuTarget
    variants: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Time:
    """Time alternatives that were built, in turns."""

    numbers: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop everything that was built."""
