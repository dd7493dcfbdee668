"""What libraries offer for the stages of a kernel: the operation that a stage is, and the ways in which a library computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import gcd, prod
from typing import Any

from codegen.device.table import ALIGNED
from codegen.libraries.blaslt import MOST_WAYS
from codegen.libraries.convolutions import convolution_of_stage
from codegen.libraries.form import Aligned, Found, Source
from codegen.libraries.operations import CUBLASLT, CUDNN, Convolution, LibraryCall, Operation
from codegen.libraries.products import product_of_stage
from codegen.lower.stages import Stage, split_stages
from codegen.schedules.context import Epilogue
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Compute

_RECOGNIZE = {CUBLASLT: product_of_stage, CUDNN: convolution_of_stage}
_ROUND = 256
"""Scratch memory of libraries is a multiple of so many bytes, and begins at one: cuBLASLt wants it."""
_PARTS = 16
_MOST_PART_BYTES = 32 << 20
"""Scratch memory of a product: sums of f32 in so many parts, and no more than cuBLAS recommends for the newest GPUs."""
_TRANSFORMED = 4
_MOST_TRANSFORMED_BYTES = 256 << 20
"""Scratch memory of a convolution: images, weights and result as numbers of f32, so many times as they are."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stage of a kernel, and what a library computes of it: an operation, or None for the rest behind one."""

    stage: Stage
    found: Found | None


@dataclass(frozen=True, slots=True)
class Way:
    """Schedule parameters that name a library, and whether other numbers are multiplied than the expression does."""

    parameters: Mapping[str, Any]
    transformed: bool = False


def parts_of(epilogue: Epilogue, library: str, aligned: Aligned) -> list[Part]:
    """A stage as one call, or as a call for its sums with the rest behind it; nothing where the library does not have it."""
    stage = epilogue.stage
    found = _RECOGNIZE[library](epilogue, aligned)
    if found is not None:
        return [Part(stage, found)]
    if stage.result is stage.scope:
        return []
    sums = Stage(stage.scope, stage.scope)
    found = _RECOGNIZE[library](Epilogue(sums), aligned)
    return [] if found is None else [Part(sums, found), Part(Stage(stage.result, stage.result), None)]


def ways_for(
    kernel: Compute, strides: tuple[int, ...] | None, start: Callable[[str], int], versions: Mapping[str, str]
) -> list[Way]:
    """The ways in which libraries of these versions compute stages of a kernel, those first that are usually faster.

    ``strides`` are the output's where it is not row-major, ``start`` is a first byte that a tensor may have, by its name.
    """
    if not versions or not kernel.output.type.elements:
        return []
    stages = [stage for stage in split_stages(kernel.expression) if stage.result.type.elements]

    def aligned(source: Source) -> int:
        if source is stages[-1].result:
            return gcd(ALIGNED, start(kernel.output.name))
        return gcd(ALIGNED, start(source.name)) if isinstance(source, Tensor) else ALIGNED

    epilogues = [Epilogue(stage, strides if stage is stages[-1] else None) for stage in stages]
    offered = []
    for library, version in versions.items():
        found = [part.found for epilogue in epilogues for part in parts_of(epilogue, library, aligned) if part.found]
        ways = _ways(library, [one.operation for one in found])
        offered.append(
            [Way({"library": library, "version": version, "way": way}, transformed) for way, transformed in ways]
        )
    return [way for together in zip_longest(*offered) for way in together if way is not None]


def call_of(operation: Operation, variant: Mapping[str, Any]) -> LibraryCall:
    """The call of an operation that a variant means."""
    return LibraryCall(
        str(variant["library"]), str(variant["version"]), variant["way"], operation, _workspace_bytes(operation)
    )


def _ways(library: str, operations: Sequence[Operation]) -> Iterator[tuple[int | str, bool]]:
    if library == CUDNN:
        yield from _algorithms([one for one in operations if isinstance(one, Convolution)])
    elif operations:
        yield from ((number, False) for number in range(MOST_WAYS))


def _algorithms(operations: Sequence[Convolution]) -> Iterator[tuple[str, bool]]:
    """cuDNN's algorithms that are for one of the convolutions at least, and whether they multiply other numbers."""
    if not operations:
        return
    yield "implicit_precomp_gemm", False
    if all(operation.bias and not operation.relu for operation in operations):
        return  # cuDNN adds a bias alone in this one only
    plain = [operation for operation in operations if operation.strides == operation.dilations == (1, 1)]
    if any(operation.kernel == (3, 3) for operation in plain):
        yield "winograd", True
    if any(operation.kernel in ((3, 3), (5, 5)) for operation in plain):
        yield "winograd_nonfused", True
    yield "implicit_gemm", False
    if any(prod(operation.kernel) > 1 for operation in plain):
        yield "fft_tiling", True
        yield "fft", True
    yield "gemm", False


def _workspace_bytes(operation: Operation) -> int:
    if isinstance(operation, Convolution):
        out = operation.images * operation.filters * prod(operation.out_size)
        read = operation.images * operation.channels * prod(operation.size)
        weights = operation.filters * operation.channels // operation.groups * prod(operation.kernel)
        size, most = _TRANSFORMED * 4 * (out + read + weights), _MOST_TRANSFORMED_BYTES
    else:
        size, most = _PARTS * 4 * operation.batches * operation.rows * operation.columns, _MOST_PART_BYTES
    return min(-(-size // _ROUND) * _ROUND, most)
