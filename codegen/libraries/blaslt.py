"""cuBLASLt: products and batches of them, one after another on a stream.

It has not run on a GPU: its descriptors are made and read back with NVIDIA's library, and its calls are tested with a library of
ours in its place. The values of its enumerations are those of ``cublasLt.h``, against which a test holds them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from codegen.libraries.calling import Functions, name_by, version_by
from codegen.libraries.library import NotSupported
from codegen.libraries.operations import LibraryCall, Matrix, Product
from tensoropt.errors import ArtefactError
from tensoropt.ir.types import DataType

TYPES = {"f32": 0, "f16": 2, "bf16": 14}
"""``cudaDataType``."""

COMPUTE_32F = 68
"""Products and sums in f32; tf32 is another type, which is not asked for."""

TRANSA, TRANSB, EPILOGUE, BIAS_POINTER, BIAS_DATA_TYPE = 3, 4, 7, 8, 26
"""``cublasLtMatmulDescAttributes_t``."""
BATCH_COUNT, STRIDED_BATCH_OFFSET = 5, 6
"""``cublasLtMatrixLayoutAttribute_t``."""
MAX_WORKSPACE_BYTES, REDUCTION_SCHEME_MASK = 1, 3
MIN_ALIGNMENT_BYTES = (5, 6, 7, 8)
"""``cublasLtMatmulPreferenceAttributes_t``; alignments are those of A, B, C and D."""
REDUCTION_INPLACE, REDUCTION_COMPUTE_TYPE = 1, 2
EPILOGUE_DEFAULT, EPILOGUE_RELU, EPILOGUE_BIAS = 1, 2, 4
"""``cublasLtEpilogue_t``; with a bias and a relu it is the sum of their numbers."""
OPERATION_N, OPERATION_T = 0, 1

MOST_WAYS = 8
"""Algorithms that are asked for at a time. Always as many, so that a number means the same another time."""


class Heuristic(ctypes.Structure):
    """``cublasLtMatmulHeuristicResult_t``: an algorithm, and what it needs."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


def version_of(library: ctypes.CDLL) -> str:
    """The library's version."""
    return version_by(library, "cublasLtGetVersion")


class BlasLt:
    """`codegen.libraries.library.Library` of cuBLASLt."""

    def __init__(self, library: ctypes.CDLL, stream: int) -> None:
        self.version = version_of(library)
        self.stream = ctypes.c_void_p(stream)
        self.call = functions_of(library)
        self.handle = self.call.made(self, "cublasLt")

    def prepared(self, call: LibraryCall) -> PreparedProduct:
        """See ``Library``."""
        assert isinstance(call.operation, Product)
        return PreparedProduct(self, call)


def functions_of(library: ctypes.CDLL) -> Functions:
    """The functions that are used, with the types of arguments that are no pointers."""
    library.cublasLtMatrixLayoutCreate.argtypes = (
        ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64,
    )  # fmt: skip
    for name in ("MatmulDescSetAttribute", "MatrixLayoutSetAttribute", "MatmulPreferenceSetAttribute"):
        function = getattr(library, f"cublasLt{name}")
        function.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
    pointer = ctypes.c_void_p
    library.cublasLtMatmul.argtypes = (*[pointer] * 14, ctypes.c_size_t, pointer)
    return Functions(library, name_by(library, "cublasLtGetStatusName"))


class Descriptors:
    """The descriptors of a product. They are made on the host, without a GPU."""

    def __init__(self, call: Functions, product: Product, workspace_bytes: int) -> None:
        self._call = call
        self.operation = call.made(self, "cublasLtMatmulDesc", COMPUTE_32F, TYPES["f32"])
        for attribute, matrix in ((TRANSA, product.left), (TRANSB, product.right)):
            self._describe(attribute, ctypes.c_int32(OPERATION_T if matrix.transposed else OPERATION_N))
        epilogue = EPILOGUE_BIAS * product.bias + EPILOGUE_RELU * product.relu
        self._describe(EPILOGUE, ctypes.c_uint32(epilogue or EPILOGUE_DEFAULT))
        if product.bias:
            self._describe(BIAS_DATA_TYPE, ctypes.c_int32(TYPES[product.result]))
            self.point(
                DataType(product.result).itemsize
            )  # an address like those to come: the choice goes by its alignment
        self.left = self._layout(product.left, product.operands, product.rows, product.depth, product.batches)
        self.right = self._layout(product.right, product.operands, product.depth, product.columns, product.batches)
        self.out = self._layout(product.out, product.result, product.rows, product.columns, product.batches)
        self.preference = call.made(self, "cublasLtMatmulPreference")
        self._prefer(MAX_WORKSPACE_BYTES, ctypes.c_uint64(workspace_bytes))
        sums = REDUCTION_COMPUTE_TYPE  # parts of sums stay f32, which they are in place of an output of f32
        self._prefer(REDUCTION_SCHEME_MASK, ctypes.c_uint32(sums | REDUCTION_INPLACE * (product.result == "f32")))
        for attribute, matrix in zip(
            MIN_ALIGNMENT_BYTES, (product.left, product.right, product.out, product.out), strict=True
        ):
            self._prefer(attribute, ctypes.c_uint32(matrix.aligned))

    def point(self, bias: int) -> None:
        """Says where the bias is."""
        self._describe(BIAS_POINTER, ctypes.c_uint64(bias))

    def _describe(self, attribute: int, value: Any) -> None:
        self._call(
            "cublasLtMatmulDescSetAttribute", self.operation, attribute, ctypes.byref(value), ctypes.sizeof(value)
        )

    def _prefer(self, attribute: int, value: Any) -> None:
        self._call(
            "cublasLtMatmulPreferenceSetAttribute", self.preference, attribute, ctypes.byref(value), ctypes.sizeof(value)
        )  # fmt: skip

    def _layout(self, matrix: Matrix, dtype: str, rows: int, columns: int, batches: int) -> ctypes.c_void_p:
        stored = (columns, rows) if matrix.transposed else (rows, columns)
        layout = self._call.made(self, "cublasLtMatrixLayout", TYPES[dtype], *stored, matrix.leading)
        for attribute, value in (
            (BATCH_COUNT, ctypes.c_int32(batches)),
            (STRIDED_BATCH_OFFSET, ctypes.c_int64(matrix.batch_stride)),
        ):
            self._call("cublasLtMatrixLayoutSetAttribute", layout, attribute, ctypes.byref(value), ctypes.sizeof(value))
        return layout


class PreparedProduct:
    """A product by one algorithm, on addresses."""

    def __init__(self, library: BlasLt, call: LibraryCall) -> None:
        assert isinstance(call.operation, Product)
        self._library, self._product = library, call.operation
        self._described = Descriptors(library.call, call.operation, call.workspace_bytes)
        self._chosen = self._algorithm(call)
        self._factors = ctypes.c_float(1.0), ctypes.c_float(0.0)
        width = DataType(call.operation.operands).itemsize
        self._starts = call.operation.left.start * width, call.operation.right.start * width

    def __call__(self, addresses: Sequence[int]) -> None:
        given = list(addresses)
        left, right = given.pop(0) + self._starts[0], given.pop(0) + self._starts[1]
        if self._product.bias:
            self._described.point(given.pop(0))
        out = given.pop(0)
        scratch = given.pop(0) if given else None
        one, zero = (ctypes.byref(factor) for factor in self._factors)
        described = self._described
        self._library.call(
            "cublasLtMatmul", self._library.handle, described.operation, one, left, described.left, right, described.right,
            zero, out, described.out, out, described.out, ctypes.byref(self._chosen.algorithm), scratch,
            self._chosen.workspace_bytes if scratch else 0, self._library.stream,
        )  # fmt: skip

    def _algorithm(self, call: LibraryCall) -> Heuristic:
        """The algorithm of the call's number. ArtefactError where there are fewer."""
        results, found = (Heuristic * MOST_WAYS)(), ctypes.c_int()
        described = self._described
        try:
            self._library.call(
                "cublasLtMatmulAlgoGetHeuristic", self._library.handle, described.operation, described.left, described.right,
                described.out, described.out, described.preference, MOST_WAYS, results, ctypes.byref(found),
            )  # fmt: skip
        except NotSupported:
            found.value = 0
        usable = [result for result in results[: found.value] if result.state == 0]
        assert isinstance(call.way, int)
        if not 0 <= call.way < len(usable):
            raise ArtefactError(
                f"cuBLASLt {call.version} knows {len(usable)} algorithms here for the {call.operation.label()}, and number "
                f"{call.way} is wanted; optimize the model again on this machine"
            )
        return usable[call.way]
