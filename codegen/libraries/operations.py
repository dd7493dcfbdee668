"""Calls of vendors' libraries as plain data, in the libraries' own terms: what an artefact keeps, and what is measured.

Extents and strides are in elements. Sums are f32 whatever the operands are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

CUBLASLT, CUDNN = "cublaslt", "cudnn"
NAMES = {CUBLASLT: "cuBLASLt", CUDNN: "cuDNN"}
"""What the libraries call themselves."""
NO_LIBRARIES: Mapping[str, str] = {}
"""Versions of libraries, by their names, where none may be called."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix column by column, each ``leading`` elements after the one before, or its transposed so; ``start`` is its first
    element in its tensor, ``aligned`` of how many bytes that is known to be a multiple.
    """

    leading: int
    batch_stride: int = 0
    transposed: bool = False
    start: int = 0
    aligned: int = 16


@dataclass(frozen=True, slots=True)
class Product:
    """``D[b, r, c] = relu(Σ<k> A[b, r, k]·B[b, k, c] + bias[r])``, the bias and relu where they are wanted.

    Its pointers are those of A, B, the bias, D, and scratch memory.
    """

    batches: int
    rows: int
    columns: int
    depth: int
    left: Matrix
    right: Matrix
    out: Matrix
    operands: str
    """The type of A and B: f32, f16 or bf16."""
    result: str
    """The type of the bias and D: the operands', or f32."""
    bias: bool = False
    relu: bool = False

    def label(self) -> str:
        """For people."""
        batch = f"{self.batches} of " if self.batches != 1 else ""
        return f"product {batch}{self.rows}x{self.columns}x{self.depth}{_end(self.operands, self.bias, self.relu)}"


@dataclass(frozen=True, slots=True)
class Convolution:
    """``y[n, f, i, j] = relu(Σ<c, r, s> x[n, g·C + c, i·stride + r·dilation − pad, …]·w[f, c, r, s] + bias[f])``.

    Images are of ``channels`` in all groups and ``size``, the weights one after another, ``kernel`` high and wide. Its pointers are
    those of x, w, the bias, y, and scratch memory.
    """

    images: int
    channels: int
    size: tuple[int, int]
    filters: int
    kernel: tuple[int, int]
    pads: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    groups: int
    out_strides: tuple[int, int, int, int]
    operands: str
    bias: bool = False
    relu: bool = False

    @property
    def out_size(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        first, second = (
            (size + 2 * pad - dilation * (taps - 1) - 1) // stride + 1
            for size, pad, dilation, taps, stride in zip(
                self.size, self.pads, self.dilations, self.kernel, self.strides, strict=True
            )
        )
        return first, second

    def label(self) -> str:
        """For people."""
        grouped = f" in {self.groups} groups" if self.groups != 1 else ""
        sizes = f"{self.images}x{self.channels}x{self.size[0]}x{self.size[1]} to {self.filters}{grouped}"
        return f"convolution {self.kernel[0]}x{self.kernel[1]} of {sizes}{_end(self.operands, self.bias, self.relu)}"


Operation = Product | Convolution


@dataclass(frozen=True, slots=True)
class LibraryCall:
    """An operation by one way of a library of one version, with scratch memory of ``workspace_bytes``.

    ``way`` is a number in the order in which cuBLASLt expects its algorithms to be fast, or the name of cuDNN's.
    """

    library: str
    version: str
    way: int | str
    operation: Operation
    workspace_bytes: int

    def label(self) -> str:
        """What the kernel is, for the manifest."""
        return f"{NAMES[self.library]} {self.operation.label()}, algorithm {self.way}"


def as_json(call: LibraryCall) -> dict[str, Any]:
    """The call as plain data."""
    return {**asdict(call), "kind": type(call.operation).__name__.lower()}


def from_json(data: Mapping[str, Any]) -> LibraryCall:
    """The call that ``as_json`` wrote. KeyError, TypeError or ValueError where it is damaged."""
    values = dict(data["operation"])
    operation: Operation
    if data["kind"] == "product":
        operation = Product(**{**values, **{name: Matrix(**values[name]) for name in ("left", "right", "out")}})
    elif data["kind"] == "convolution":
        listed = {name: tuple(map(int, value)) for name, value in values.items() if isinstance(value, list | tuple)}
        operation = Convolution(**{**values, **listed})
    else:
        raise ValueError(f"no operation is a {data['kind']!r}")
    if data["library"] not in NAMES:
        raise ValueError(f"no library is called {data['library']!r}")
    return LibraryCall(data["library"], str(data["version"]), data["way"], operation, int(data["workspace_bytes"]))


def _end(dtype: str, bias: bool, relu: bool) -> str:
    return f" {dtype}{' + bias' if bias else ''}{', relu' if relu else ''}"
