"""NVIDIA's own headers and libraries where their wheels are installed: the numbers, sizes and offsets that the bindings use, and
descriptors made by the libraries, which needs no GPU, and read back.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codegen.libraries import blaslt, cudnn
from codegen.libraries.finding import NoLibrary, find
from codegen.libraries.library import LibraryError, installed
from codegen.libraries.operations import CUBLASLT, CUDNN, Convolution, Matrix, Product
from codegen.targets.here import why_not_here
from codegen.targets.named import NAMED

COMPILER = shutil.which("gcc") or shutil.which("cc")
PRODUCT = Product(
    3, 7, 5, 6, Matrix(9, 70), Matrix(8, 0, True, 4, 8), Matrix(7, 35, aligned=4), "f16", "f16", True, True
)
CONVOLUTION = Convolution(
    2, 6, (9, 8), 4, (3, 2), (1, 0), (2, 1), (1, 3), 2, (400, 100, 20, 1), "bf16", bias=True, relu=True
)

NUMBERS = {
    "cublasLt.h": {
        "CUDA_R_32F": blaslt.TYPES["f32"],
        "CUDA_R_16F": blaslt.TYPES["f16"],
        "CUDA_R_16BF": blaslt.TYPES["bf16"],
        "CUBLAS_COMPUTE_32F": blaslt.COMPUTE_32F,
        "CUBLAS_OP_N": blaslt.OPERATION_N,
        "CUBLAS_OP_T": blaslt.OPERATION_T,
        "CUBLASLT_MATMUL_DESC_TRANSA": blaslt.TRANSA,
        "CUBLASLT_MATMUL_DESC_TRANSB": blaslt.TRANSB,
        "CUBLASLT_MATMUL_DESC_EPILOGUE": blaslt.EPILOGUE,
        "CUBLASLT_MATMUL_DESC_BIAS_POINTER": blaslt.BIAS_POINTER,
        "CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE": blaslt.BIAS_DATA_TYPE,
        "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": blaslt.BATCH_COUNT,
        "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": blaslt.STRIDED_BATCH_OFFSET,
        "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": blaslt.MAX_WORKSPACE_BYTES,
        "CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK": blaslt.REDUCTION_SCHEME_MASK,
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES": blaslt.MIN_ALIGNMENT_BYTES[0],
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES": blaslt.MIN_ALIGNMENT_BYTES[1],
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES": blaslt.MIN_ALIGNMENT_BYTES[2],
        "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES": blaslt.MIN_ALIGNMENT_BYTES[3],
        "CUBLASLT_REDUCTION_SCHEME_INPLACE": blaslt.REDUCTION_INPLACE,
        "CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE": blaslt.REDUCTION_COMPUTE_TYPE,
        "CUBLASLT_EPILOGUE_DEFAULT": blaslt.EPILOGUE_DEFAULT,
        "CUBLASLT_EPILOGUE_RELU": blaslt.EPILOGUE_RELU,
        "CUBLASLT_EPILOGUE_BIAS": blaslt.EPILOGUE_BIAS,
        "CUBLASLT_EPILOGUE_RELU_BIAS": blaslt.EPILOGUE_RELU + blaslt.EPILOGUE_BIAS,
        "CUBLAS_STATUS_SUCCESS": 0,
        "sizeof(cublasLtMatmulHeuristicResult_t)": ctypes.sizeof(blaslt.Heuristic),
        "offsetof(cublasLtMatmulHeuristicResult_t, algo)": blaslt.Heuristic.algorithm.offset,
        "offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize)": blaslt.Heuristic.workspace_bytes.offset,
        "offsetof(cublasLtMatmulHeuristicResult_t, state)": blaslt.Heuristic.state.offset,
        "offsetof(cublasLtMatmulHeuristicResult_t, wavesCount)": blaslt.Heuristic.waves.offset,
    },
    "cudnn.h": {
        "CUDNN_DATA_FLOAT": cudnn.TYPES["f32"],
        "CUDNN_DATA_HALF": cudnn.TYPES["f16"],
        "CUDNN_DATA_BFLOAT16": cudnn.TYPES["bf16"],
        "CUDNN_TENSOR_NCHW": cudnn.NCHW,
        "CUDNN_CROSS_CORRELATION": cudnn.CROSS_CORRELATION,
        "CUDNN_PROPAGATE_NAN": cudnn.PROPAGATE_NAN,
        "CUDNN_ACTIVATION_RELU": cudnn.RELU,
        "CUDNN_ACTIVATION_IDENTITY": cudnn.IDENTITY,
        "CUDNN_TENSOR_OP_MATH": cudnn.TENSOR_OP_MATH,
        "CUDNN_FMA_MATH": cudnn.FMA_MATH,
        "CUDNN_STATUS_SUCCESS": 0,
        **{f"CUDNN_CONVOLUTION_FWD_ALGO_{name.upper()}": number for name, number in cudnn.ALGORITHMS.items()},
    },
}


def folders_of_headers() -> list[str]:
    """Where NVIDIA's headers may be: in wheels, and in a toolkit beside nvcc."""
    wheels = [Path(root) / folder for root in sys.path for folder in ("nvidia/cu13/include", "nvidia/cudnn/include")]
    nvcc = shutil.which("nvcc")
    toolkits = [Path("/usr/local/cuda/include"), *([Path(nvcc).resolve().parents[1] / "include"] if nvcc else [])]
    return [str(folder) for folder in (*wheels, *toolkits) if folder.is_dir()]


@pytest.mark.parametrize("header", NUMBERS)
def test_numbers_are_those_of_the_headers(header: str, tmp_path: Path) -> None:
    folders = folders_of_headers()
    if COMPILER is None or not any((Path(folder) / header).is_file() for folder in folders):
        pytest.skip(f"{header} is not installed")
    said = "".join(f'printf("%ld\\n", (long)({name}));\n' for name in NUMBERS[header])
    source = tmp_path / "numbers.c"
    source.write_text(f"#include <stdio.h>\n#include <stddef.h>\n#include <{header}>\nint main(void) {{\n{said}}}\n")
    include = [option for folder in folders for option in ("-I", folder)]
    subprocess.run([COMPILER, "-w", *include, str(source), "-o", str(tmp_path / "numbers")], check=True)
    found = subprocess.run([str(tmp_path / "numbers")], check=True, capture_output=True, text=True).stdout.split()
    assert dict(zip(NUMBERS[header], map(int, found), strict=True)) == NUMBERS[header]


def library(name: str) -> ctypes.CDLL:
    try:
        return find(name)
    except NoLibrary as error:
        pytest.skip(str(error))


def read(function: object, one: ctypes.c_void_p, attribute: int, value: object) -> int:
    written = ctypes.c_size_t()
    arguments = ctypes.byref(value), ctypes.sizeof(value), ctypes.byref(written)  # type: ignore[arg-type]
    assert function(one, attribute, *arguments) == 0  # type: ignore[operator]
    assert written.value == ctypes.sizeof(value)  # type: ignore[arg-type]
    return int(value.value)  # type: ignore[attr-defined]


def test_cublaslt_keeps_what_a_product_says() -> None:
    real = library(CUBLASLT)
    for name in ("MatmulDesc", "MatrixLayout", "MatmulPreference"):
        function = getattr(real, f"cublasLt{name}GetAttribute")
        function.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
    made = blaslt.Descriptors(blaslt.functions_of(real), PRODUCT, 4096)
    made.point(1 << 40)
    described, layout = real.cublasLtMatmulDescGetAttribute, real.cublasLtMatrixLayoutGetAttribute
    operation = made.operation
    assert read(described, operation, blaslt.TRANSA, ctypes.c_int32()) == blaslt.OPERATION_N
    assert read(described, operation, blaslt.TRANSB, ctypes.c_int32()) == blaslt.OPERATION_T
    assert read(described, operation, blaslt.EPILOGUE, ctypes.c_uint32()) == 6
    assert read(described, operation, blaslt.BIAS_POINTER, ctypes.c_uint64()) == 1 << 40
    assert read(described, operation, blaslt.BIAS_DATA_TYPE, ctypes.c_int32()) == 2
    assert read(described, operation, 0, ctypes.c_int32()) == blaslt.COMPUTE_32F
    for one, rows, columns, leading, stride in (
        (made.left, 7, 6, 9, 70),
        (made.right, 5, 6, 8, 0),
        (made.out, 7, 5, 7, 35),
    ):
        kinds = (
            ctypes.c_uint32,
            ctypes.c_int32,
            ctypes.c_uint64,
            ctypes.c_uint64,
            ctypes.c_int64,
            ctypes.c_int32,
            ctypes.c_int64,
        )
        found = [read(layout, one, attribute, kind()) for attribute, kind in enumerate(kinds)]
        assert found == [2, 0, rows, columns, leading, 3, stride], "type, column by column, …"
    preferred = [
        read(real.cublasLtMatmulPreferenceGetAttribute, made.preference, attribute, kind())
        for attribute, kind in (
            (1, ctypes.c_uint64),
            (3, ctypes.c_uint32),
            *((one, ctypes.c_uint32) for one in range(5, 9)),
        )
    ]
    assert preferred == [4096, blaslt.REDUCTION_COMPUTE_TYPE, 16, 8, 4, 4]


def test_cudnn_keeps_what_a_convolution_says() -> None:
    real = library(CUDNN)
    made = cudnn.Descriptors(cudnn.functions_of(real), CONVOLUTION)

    def said(name: str, one: ctypes.c_void_p, count: int) -> list[int]:
        values = [ctypes.c_int() for _ in range(count)]
        assert getattr(real, name)(one, *(ctypes.byref(value) for value in values)) == 0
        return [value.value for value in values]

    assert said("cudnnGetTensor4dDescriptor", made.image, 9) == [9, 2, 6, 9, 8, 432, 72, 8, 1]
    assert said("cudnnGetTensor4dDescriptor", made.out, 9) == [9, 2, 4, 5, 5, 400, 100, 20, 1]
    assert said("cudnnGetTensor4dDescriptor", made.bias, 9)[:5] == [9, 1, 4, 1, 1]
    assert said("cudnnGetFilter4dDescriptor", made.weights, 6) == [9, 0, 4, 3, 3, 2]
    assert said("cudnnGetConvolution2dDescriptor", made.convolution, 8) == [1, 0, 2, 1, 1, 3, 1, 0]
    assert said("cudnnGetConvolutionGroupCount", made.convolution, 1) == [2]
    assert said("cudnnGetConvolutionMathType", made.convolution, 1) == [cudnn.TENSOR_OP_MATH]
    sizes = [ctypes.c_int() for _ in range(4)]
    assert (
        real.cudnnGetConvolution2dForwardOutputDim(
            made.convolution, made.image, made.weights, *(ctypes.byref(size) for size in sizes)
        )
        == 0
    )
    assert [size.value for size in sizes] == [2, 4, *CONVOLUTION.out_size]


@pytest.mark.parametrize("name", [CUBLASLT, CUDNN])
def test_what_is_installed_has_a_version(name: str) -> None:
    library(name)
    assert len(installed()[name].split(".")) == 3


def test_a_library_without_a_gpu_says_so() -> None:
    real = library(CUBLASLT)
    if why_not_here([NAMED["h200"]])["h200"] != "no NVIDIA driver is installed":
        pytest.skip("there is a driver")
    with pytest.raises(LibraryError, match=r"^cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED$"):
        blaslt.BlasLt(real, 0)
