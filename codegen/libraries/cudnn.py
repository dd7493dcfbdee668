"""cuDNN: convolutions, by the functions of its version 9 that take an algorithm.

It has not run on a GPU: its descriptors are made and read back with NVIDIA's library, and its calls are tested with a library of
ours in its place. The values of its enumerations are those of its headers, against which a test holds them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from codegen.libraries.calling import Functions, name_by, version_by
from codegen.libraries.operations import Convolution, LibraryCall
from tensoropt.errors import ArtefactError

TYPES = {"f32": 0, "f16": 2, "bf16": 9}
"""``cudnnDataType_t``."""
NCHW, CROSS_CORRELATION, PROPAGATE_NAN = 0, 1, 1
RELU, IDENTITY = 1, 5
"""``cudnnActivationMode_t``."""
TENSOR_OP_MATH, FMA_MATH = 1, 3
"""``cudnnMathType_t``: f32 is multiplied as such, and not as tf32."""
ALGORITHMS = {
    "implicit_gemm": 0,
    "implicit_precomp_gemm": 1,
    "gemm": 2,
    "fft": 4,
    "fft_tiling": 5,
    "winograd": 6,
    "winograd_nonfused": 7,
}
"""``cudnnConvolutionFwdAlgo_t``."""


def version_of(library: ctypes.CDLL) -> str:
    """The library's version."""
    return version_by(library, "cudnnGetVersion")


class Cudnn:
    """`codegen.libraries.library.Library` of cuDNN."""

    def __init__(self, library: ctypes.CDLL, stream: int) -> None:
        self.version = version_of(library)
        self.call = functions_of(library)
        self.handle = self.call.made(self, "cudnn")
        self.call("cudnnSetStream", self.handle, ctypes.c_void_p(stream))

    def prepared(self, call: LibraryCall) -> PreparedConvolution:
        """See ``Library``."""
        return PreparedConvolution(self, call)


def functions_of(library: ctypes.CDLL) -> Functions:
    """The functions that are used, with the types of arguments that are no pointers and no ints."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.cudnnSetActivationDescriptor.argtypes = pointer, ctypes.c_int, ctypes.c_int, ctypes.c_double
    library.cudnnConvolutionForward.argtypes = (*[pointer] * 7, ctypes.c_int, pointer, size, *[pointer] * 3)
    library.cudnnConvolutionBiasActivationForward.argtypes = (
        *[pointer] * 7,
        ctypes.c_int,
        pointer,
        size,
        *[pointer] * 8,
    )
    return Functions(library, name_by(library, "cudnnGetErrorString"))


class Descriptors:
    """The descriptors of a convolution. They are made on the host, without a GPU."""

    def __init__(self, call: Functions, one: Convolution) -> None:
        dtype = TYPES[one.operands]
        self.image, self.out, self.bias = (call.made_before(self, "cudnn", "TensorDescriptor") for _ in range(3))
        self.weights = call.made_before(self, "cudnn", "FilterDescriptor")
        self.convolution = call.made_before(self, "cudnn", "ConvolutionDescriptor")
        self.activation = call.made_before(self, "cudnn", "ActivationDescriptor")
        call("cudnnSetTensor4dDescriptor", self.image, NCHW, dtype, one.images, one.channels, *one.size)
        extents = one.images, one.filters, *one.out_size
        call("cudnnSetTensor4dDescriptorEx", self.out, dtype, *extents, *one.out_strides)
        call("cudnnSetTensor4dDescriptor", self.bias, NCHW, dtype, 1, one.filters, 1, 1)
        call(
            "cudnnSetFilter4dDescriptor",
            self.weights,
            dtype,
            NCHW,
            one.filters,
            one.channels // one.groups,
            *one.kernel,
        )
        call(
            "cudnnSetConvolution2dDescriptor", self.convolution, *one.pads, *one.strides, *one.dilations, CROSS_CORRELATION,
            TYPES["f32"],
        )  # fmt: skip
        call("cudnnSetConvolutionGroupCount", self.convolution, one.groups)
        math = FMA_MATH if one.operands == "f32" else TENSOR_OP_MATH
        call("cudnnSetConvolutionMathType", self.convolution, math)
        call("cudnnSetActivationDescriptor", self.activation, RELU if one.relu else IDENTITY, PROPAGATE_NAN, 0.0)


class PreparedConvolution:
    """A convolution by one algorithm, on addresses."""

    def __init__(self, library: Cudnn, call: LibraryCall) -> None:
        assert isinstance(call.operation, Convolution)
        self._library, self._convolution = library, call.operation
        self._described = Descriptors(library.call, call.operation)
        self._algorithm = ALGORITHMS[str(call.way)]
        self._factors = ctypes.c_float(1.0), ctypes.c_float(0.0)
        self._scratch_bytes = ctypes.c_size_t()
        described = self._described
        library.call(
            "cudnnGetConvolutionForwardWorkspaceSize", library.handle, described.image, described.weights,
            described.convolution, described.out, self._algorithm, ctypes.byref(self._scratch_bytes),
        )  # fmt: skip
        if self._scratch_bytes.value > call.workspace_bytes:
            raise ArtefactError(
                f"cuDNN's {call.way} needs {self._scratch_bytes.value} bytes of scratch memory here for the "
                f"{call.operation.label()}, and {call.workspace_bytes} are given; optimize the model again on this machine"
            )

    def __call__(self, addresses: Sequence[int]) -> None:
        given = list(addresses)
        image, weights = given.pop(0), given.pop(0)
        bias = given.pop(0) if self._convolution.bias else None
        out = given.pop(0)
        scratch = given.pop(0) if given and self._scratch_bytes.value else None
        one, zero = (ctypes.byref(factor) for factor in self._factors)
        call, handle, described = self._library.call, self._library.handle, self._described
        first = (
            handle, one, described.image, image, described.weights, weights, described.convolution, self._algorithm, scratch,
            self._scratch_bytes.value, zero,
        )  # fmt: skip
        if bias is None:
            call("cudnnConvolutionForward", *first, described.out, out)
            return
        call(
            "cudnnConvolutionBiasActivationForward", *first, described.out, out, described.bias, bias, described.activation,
            described.out, out,
        )  # fmt: skip
