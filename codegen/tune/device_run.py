"""Runs of a candidate on a device that notice what it must not do, as ``guarded`` does for the CPU: guard zones lie in the device's
memory, around inputs, outputs, scratch memory and constants, and are read back.

There are as many copies of all buffers as are larger together than the device's last cache, and runs go round them. Every copy
must end up with the same bytes: threads that race do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from codegen.device.bench import Bench, DeviceFailed
from codegen.device.build import BuiltDeviceProgram
from codegen.device.table import ALIGNED, Place
from codegen.strided import box_of, spanned
from codegen.tune.guarded import GARBAGE, GUARD, GUARD_BYTES, Broken, Trespass
from codegen.tune.layout import Layout
from tensoropt.allocation import ALIGNMENT
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array

_MOST_COPIES = 64
"""So what is small is not as cold as it could be; in a model it is not either."""
_UNIT = 256
"""Memory is given out in multiples of so many bytes."""


class Unsteady(Exception):
    """The same run gave other bytes another time."""


class GuardedDeviceRun:
    """A built program with buffers of its own on the device; see ``guarded.GuardedRun``."""

    def __init__(self, built: BuiltDeviceProgram, feeds: Mapping[str, Array], bench: Bench, layout: Layout) -> None:
        self._bench = bench
        strides = {step.statement.output.name: step.kernel.strides for step in built.steps}
        self._written = [(tensor, strides.get(tensor.name)) for tensor in built.signature.written_outputs]
        size = max(1, sum(zone.size for zone in self._zones(built, feeds, layout)))
        count = 1 if size > bench.cache_bytes else min(_MOST_COPIES, 1 + -(-bench.cache_bytes // size))
        with _failures():
            self._copies = [self._zones(built, feeds, layout) for _ in range(count)]
            for copy in self._copies:
                for zone in copy:
                    zone.place(bench)
            self._launches = [bench.launches(built.starts, _At(copy)) for copy in self._copies]
            self._timer = bench.timer(self._launches)

    def __call__(self) -> None:
        """One run on each copy. Broken where the device fails."""
        with _failures():
            for launches in self._launches:
                self._bench.run(launches)

    def seconds(self) -> float:
        """How long a run takes, by the device's events."""
        with _failures():
            return self._timer()

    def clocks(self) -> Mapping[str, int] | None:
        """The device's, in MHz; None where it does not tell them."""
        return self._bench.clocks()

    def finish(self) -> dict[str, Array]:
        """The outputs by name. Trespass where anything else was written, Unsteady where copies differ."""
        with _failures():
            found = [[zone.fetched(self._bench) for zone in copy] for copy in self._copies]
        for copy, contents in zip(self._copies, found, strict=True):
            for zone, content in zip(copy, contents, strict=True):
                zone.require_untouched(content)
        outputs = [
            [content for zone, content in zip(copy, contents, strict=True) if zone.region == "output"]
            for copy, contents in zip(self._copies, found, strict=True)
        ]
        for others in outputs[1:]:
            for (tensor, _), first, other in zip(self._written, outputs[0], others, strict=True):
                if not np.array_equal(first, other):
                    raise Unsteady(f"{tensor.name} differs from run to run")
        return {
            tensor.name: _shaped(tensor, strides, content)
            for (tensor, strides), content in zip(self._written, outputs[0], strict=True)
        }

    def _zones(self, built: BuiltDeviceProgram, feeds: Mapping[str, Array], layout: Layout) -> list[_Zone]:
        """Everything that a run uses, in the order of the regions' numbers."""
        signature = built.signature
        found = [
            _Zone("input", f"the input {tensor.name}", tensor.type.bytes, layout.start(tensor.name), feeds[tensor.name])
            for tensor in signature.inputs
        ]
        for tensor, strides in self._written:
            elements = tensor.type.elements if strides is None else spanned(tuple(tensor.shape), strides)
            zone = _Zone(
                "output", f"the output {tensor.name}", elements * tensor.dtype.itemsize, layout.start(tensor.name)
            )
            zone.between = strides is not None and elements != tensor.type.elements
            zone.box = tensor, strides
            found.append(zone)
        found.append(_Zone("arena", "the workspace", max(signature.arena_bytes, ALIGNMENT)))
        found.append(_Zone("weights", "its constants", built.weights.nbytes, 0, built.weights))
        return found


@contextmanager
def _failures() -> Iterator[None]:
    """Broken where the device fails."""
    try:
        yield
    except DeviceFailed as failure:
        raise Broken(f"the device failed: {failure}") from failure


def _room(zone: _Zone) -> int:
    return -(-(2 * GUARD_BYTES + ALIGNED + zone.size) // _UNIT) * _UNIT


class _Zone:
    """A buffer between guard zones, ``shift`` bytes further than they are aligned. One with a ``content`` is only read."""

    def __init__(self, region: str, name: str, size: int, shift: int = 0, content: Array | None = None) -> None:
        self.region, self.name, self.size, self.content = region, name, size, content
        self.first = GUARD_BYTES + shift
        self.box: tuple[Tensor, tuple[int, ...] | None] | None = None
        self.between = False
        self._memory: Any = None

    def place(self, bench: Bench) -> None:
        """Gives it memory, with garbage where there is no content."""
        self._memory = bench.memory(_room(self))
        bench.write(self._memory, self._before())

    def at(self, offset: int) -> Any:
        """A byte of the buffer, as kernels take it."""
        return self._memory.at(self.first + offset)

    def fetched(self, bench: Bench) -> Array:
        """The buffer's bytes now. Trespass where a guard zone was written to."""
        whole = np.empty(_room(self), np.uint8)
        bench.read(self._memory, whole)
        for zone, side in ((whole[: self.first], "before"), (whole[self.first + self.size :], "after")):
            if (zone != GUARD).any():
                raise Trespass(f"wrote {side} {self.name}")
        return whole[self.first : self.first + self.size]

    def require_untouched(self, content: Array) -> None:
        """Trespass where something was written that is not the candidate's."""
        if self.content is not None and not np.array_equal(content, _bytes(self.content)):
            raise Trespass(f"wrote to {self.name}")
        if self.between and self.box is not None:
            rest = content.copy()
            _shaped(*self.box, rest)[...] = 0
            before = np.full_like(content, GARBAGE)
            _shaped(*self.box, before)[...] = 0
            if not np.array_equal(rest, before):
                raise Trespass(f"wrote between the parts of {self.name}")

    def _before(self) -> Array:
        whole = np.full(_room(self), GUARD, np.uint8)
        whole[self.first : self.first + self.size] = GARBAGE if self.content is None else _bytes(self.content)
        return whole


class _At:
    """Where the places of a table are in one copy of the buffers."""

    def __init__(self, zones: list[_Zone]) -> None:
        self._regions: dict[str, list[_Zone]] = {}
        for zone in zones:
            self._regions.setdefault(zone.region, []).append(zone)

    def __call__(self, place: Place) -> Any:
        return self._regions[place.region][place.number].at(place.offset)


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _shaped(tensor: Tensor, strides: tuple[int, ...] | None, content: Array) -> Array:
    """The tensor that bytes hold: a view."""
    flat = content.view(tensor.dtype.numpy)
    return flat.reshape(tuple(tensor.shape)) if strides is None else box_of(flat, 0, tensor, strides)
