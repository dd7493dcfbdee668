"""What bands in one launch need of a GPU, by nvcc: registers without spills, shared memory that it gives unasked."""

from __future__ import annotations

import pytest

from codegen.lower.device import lower
from codegen.targets.named import NAMED
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.types import DataType
from tests.strategies.attention import Sizes, band
from tests.strategies.nvcc import lean, needs_nvcc

LONG = Sizes(8, 2048, 257, 64, 64)
"""Longformer's, of which rows two apart have their keys in common."""
BANDS: dict[str, Scope] = {
    "dilated": band(LONG, DataType.FLOAT32, 2, 256, True),
    "dilated_halves": band(LONG, DataType.FLOAT16, 2, 256, True),
    "dense": band(Sizes(12, 4096, 512, 64, 64), DataType.FLOAT32, 1, 511),
    "wide_heads": band(Sizes(32, 1024, 128, 128, 128), DataType.FLOAT32, 1, 64, True),
    "no_neighbours": band(Sizes(3, 510, 31, 33, 35), DataType.FLOAT16, 3, 45, True),
}


@needs_nvcc
@pytest.mark.parametrize("gpu", ["a100", "h200"])
def test_registers_and_shared_memory(gpu: str) -> None:
    functions: dict[str, object] = {}
    for name, scope in BANDS.items():
        kernel = lower(Tensor("y", scope.type), scope, NAMED[gpu])
        assert kernel.schedules[0].startswith("attention"), name
        assert not kernel.workspace_bytes, "no score is stored"
        (launch,) = kernel.launches
        functions[name] = launch.function
    lean(functions, NAMED[gpu])
