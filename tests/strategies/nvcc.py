"""CUDA's compiler, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from codegen.cuda.cubins import compile_functions
from codegen.cuda.nvcc import find_nvcc
from codegen.cuda.resources import Resources
from codegen.targets.gpu import GpuTarget
from tensoropt.errors import UsageError


def installed() -> bool:
    """Whether it is found."""
    try:
        find_nvcc()
    except UsageError:
        return False
    return True


needs_nvcc = pytest.mark.skipif(not installed(), reason="needs nvcc, which no machine without the CUDA toolkit has")


def lean(functions: Mapping[str, Any], gpu: GpuTarget) -> dict[str, Resources]:
    """What device functions need, by name: no spills, no stack, and as much as two blocks of 256 threads and any launch get."""
    found = {name: needs for cubin in compile_functions(functions, gpu) for name, needs in cubin.kernels.items()}
    assert found.keys() == functions.keys()
    for name, needs in found.items():
        assert not needs.spills, name
        assert needs.stack_bytes == 0, name
        assert needs.registers <= 128, name
        assert needs.shared_bytes <= 48 << 10, name
    return found
