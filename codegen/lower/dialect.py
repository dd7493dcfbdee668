"""What differs between the languages that kernels end up in: how literals, bits and f16 values are spelled.

TVM's generator of OpenCL prints seven digits of a float and takes a local copy for every reinterpretation, before the condition
that guards it; and OpenCL knows f16 only as memory unless a device says more. So kernels for a device say such things by
functions of its language.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from tvm import tirx

Expression = Any


class Dialect:
    """LLVM's: TIR says everything."""

    half = "float16"
    """How f16 lies in memory."""

    def literal(self, value: float | int | bool, dtype: str) -> Expression:
        """A scalar literal."""
        return tirx.const(value, dtype)

    def reinterpret(self, dtype: str, value: Expression) -> Expression:
        """A value of another type with the same bits."""
        return tirx.reinterpret(dtype, value)

    def from_half(self, value: Expression, wide: str) -> Expression:
        """An f16 as it lies in memory as an f32; ``wide`` with the lanes."""
        return tirx.Cast(wide, value)

    def to_half(self, value: Expression, narrow: str) -> Expression:
        """An f32 rounded to f16, ties to even, as it lies in memory; ``narrow`` is f16 with the lanes."""
        return tirx.Cast(narrow, value)


class _Device(Dialect):
    """A language in which a reinterpretation is a function, by the type that it takes and the one that it gives."""

    bits: dict[tuple[str, str], str]

    def reinterpret(self, dtype: str, value: Expression) -> Expression:
        return tirx.call_pure_extern(dtype, self.bits[str(value.ty.dtype), dtype], value)


class Cuda(_Device):
    """CUDA C++, where a literal is printed exactly and f16 is a type."""

    bits = {  # noqa: RUF012
        ("int32", "float32"): "__int_as_float",
        ("uint32", "float32"): "__uint_as_float",
        ("float32", "int32"): "__float_as_int",
        ("float32", "uint32"): "__float_as_uint",
        ("int64", "float64"): "__longlong_as_double",
        ("float64", "int64"): "__double_as_longlong",
    }


class OpenCl(_Device):
    """OpenCL C without extensions: f16 is 16 bits that two functions of the prelude convert."""

    half = "uint16"
    bits = {  # noqa: RUF012
        ("int32", "float32"): "as_float",
        ("uint32", "float32"): "as_float",
        ("float32", "int32"): "as_int",
        ("float32", "uint32"): "as_uint",
        ("uint64", "float64"): "as_double",
        ("int64", "float64"): "as_double",
        ("float64", "int64"): "as_long",
    }

    def literal(self, value: float | int | bool, dtype: str) -> Expression:
        """Floats but -1, 0 and 1 by their bits, which also keeps TVM from folding them to what it cannot print."""
        if not dtype.startswith("float") or (value in (-1, 0, 1) and str(value) != "-0.0"):
            return tirx.const(value, dtype)
        width = 32 if dtype == "float32" else 64
        bits = int(np.array(value, dtype).view(f"uint{width}"))
        return self.reinterpret(dtype, tirx.const(bits, f"uint{width}"))

    def from_half(self, value: Expression, wide: str) -> Expression:
        return tirx.call_pure_extern(wide, "float_of_half", value)

    def to_half(self, value: Expression, narrow: str) -> Expression:
        return tirx.call_pure_extern("uint16", "half_of_float", value)


PLAIN = Dialect()

_current: ContextVar[Dialect] = ContextVar("dialect", default=PLAIN)


def current() -> Dialect:
    """The language that kernels are being written for."""
    return _current.get()


@contextmanager
def written_in(dialect: Dialect) -> Iterator[None]:
    """Kernels lowered inside are for this language."""
    token = _current.set(dialect)
    try:
        yield
    finally:
        _current.reset(token)
