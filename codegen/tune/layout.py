"""How the tensors of a kernel lie in the program that it is part of, where that decides which code the kernel becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from codegen.device.table import ALIGNED
from tensoropt.allocation import Placement
from tensoropt.ir.expression import Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """``strides`` of the output in elements, None where it is row-major. ``alignments``: of how many bytes a tensor's place is
    known to be a multiple, by the tensor's name, where that is less than ``ALIGNED``.
    """

    strides: tuple[int, ...] | None = None
    alignments: tuple[tuple[str, int], ...] = ()

    def start(self, name: str) -> int:
        """A first byte that a tensor may have: at no larger a multiple than is known of it."""
        return dict(self.alignments).get(name, 0)

    def text(self, order: Sequence[Tensor]) -> str:
        """The layout without names, for keys: tensors are told by their place in ``order``. Empty where nothing is special."""
        known = dict(self.alignments)
        aligned = [known.get(tensor.name, ALIGNED) for tensor in order]
        special = any(one != ALIGNED for one in aligned)
        return (f" strides {self.strides}" if self.strides else "") + (f" aligned {aligned}" if special else "")


def layout_of(output: str, actual: Mapping[str, Tensor], plan: Placement) -> Layout:
    """How a statement's tensors lie: ``actual`` is what the tensors of its kernel are, whose output is called ``out``."""
    places = {**{name: tensor.name for name, tensor in actual.items()}, "out": output}
    found = {name: gcd(ALIGNED, plan.start(place)) for name, place in places.items()}
    narrow = tuple((name, multiple) for name, multiple in found.items() if multiple != ALIGNED)
    return Layout(plan.strides.get(output), narrow)
