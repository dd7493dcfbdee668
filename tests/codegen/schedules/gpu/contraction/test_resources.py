"""What blocks of products need of a GPU, by nvcc: registers without spills, shared memory that is given without being asked for."""

from __future__ import annotations

import pytest

from codegen.lower.device import lower
from codegen.targets.named import NAMED
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.types import DataType
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.codegen.schedules.test_contraction import convolution
from tests.strategies.nvcc import lean

KERNELS: dict[str, Scope] = {
    "large": product_of((4096, 4096, 4096), 1, (False, False))[0],
    "transposed": product_of((1000, 1000, 1000), 1, (True, True))[0],
    "heads": product_of((197, 197, 64), 12, (False, True))[0],
    "halves": product_of((2048, 2048, 512), 1, (False, False), DataType.FLOAT16)[0],
    "doubles": product_of((512, 512, 512), 1, (False, False), DataType.FLOAT64)[0],
    "few_rows": product_of((4, 4096, 4096), 1, (False, True))[0],
    "image": convolution(1, 64, 64, (56, 56), (3, 3), 1, 1, (1, 1), 1),
    "small_image": convolution(1, 512, 512, (7, 7), (3, 3), 1, 1, (1, 1), 1),
    "first": convolution(16, 3, 64, (224, 224), (7, 7), 2, 1, (3, 3), 1),
    "groups": convolution(4, 128, 256, (28, 28), (3, 3), 1, 2, (2, 2), 4),
}


@pytest.mark.parametrize("gpu", ["a100", "h200"])
def test_registers_and_shared_memory(gpu: str) -> None:
    functions: dict[str, object] = {}
    for name, scope in KERNELS.items():
        kernel = lower(Tensor("y", scope.type), scope, NAMED[gpu])
        assert kernel.schedules[0].startswith("contraction"), name
        functions |= {f"{name}_{number}": launch.function for number, launch in enumerate(kernel.launches)}
    found = lean(functions, NAMED[gpu])
    assert max(needs.shared_bytes for needs in found.values()) > 8 << 10
