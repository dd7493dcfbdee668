"""CUDA's compiler, where it is installed."""

from __future__ import annotations

import pytest

from codegen.cuda.nvcc import find_nvcc
from tensoropt.errors import UsageError


def installed() -> bool:
    """Whether it is found."""
    try:
        find_nvcc()
    except UsageError:
        return False
    return True


needs_nvcc = pytest.mark.skipif(not installed(), reason="needs nvcc, which no machine without the CUDA toolkit has")
