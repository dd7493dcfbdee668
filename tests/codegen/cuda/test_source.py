"""CUDA C++ of device functions: kernels by name, parameters in order, sources of about the same length."""

from __future__ import annotations

import re

import pytest

from codegen.cuda.source import chunks, cuda_source
from codegen.targets.named import NAMED
from tests.strategies.device_functions import reversed_blocks

KERNEL = re.compile(r'extern "C" __global__ void __launch_bounds__\((\d+)\) (\w+)\(([^)]*)\) \{')


@pytest.mark.parametrize("name", ["h200", "a100", "t4", "rtx5090"])
def test_a_source_has_each_kernel_under_its_name(name: str) -> None:
    target = NAMED[name]
    source = cuda_source({"first": reversed_blocks(target), "second": reversed_blocks(target, threads=64)}, target)
    found = KERNEL.findall(source)
    assert [(threads, kernel) for threads, kernel, _ in found] == [("128", "first"), ("64", "second")]
    assert found[0][2] == "float* __restrict__ x, float* __restrict__ y"
    assert source.count("block_barrier();") == 2


def test_taking_a_source_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import tvm_ffi

    def compiled(code: str) -> bytes:
        raise AssertionError("compiled")

    kept = tvm_ffi.get_global_func("tvm_callback_cuda_compile")
    tvm_ffi.register_global_func("tvm_callback_cuda_compile", compiled, override=True)
    try:
        assert cuda_source({"kernel": reversed_blocks(NAMED["h200"])}, NAMED["h200"])
    finally:
        tvm_ffi.register_global_func("tvm_callback_cuda_compile", kept, override=True)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_chunks_have_every_kernel_once_and_do_not_depend_on_order(count: int) -> None:
    target = NAMED["a100"]
    functions = {f"kernel_{number}": reversed_blocks(target, threads=32 * (number + 1)) for number in range(7)}
    made = chunks(functions, target, count)
    assert len(made) == min(count, 7)
    names = [kernel for source in made for _, kernel, _ in KERNEL.findall(source)]
    assert sorted(names) == sorted(functions)
    assert max(map(len, made)) - min(map(len, made)) < max(
        len(cuda_source({"k": one}, target)) for one in functions.values()
    )
    assert chunks(dict(reversed(functions.items())), target, count) == made
