"""What kernels read and write at once is one instruction each in what nvcc makes of it, for every type."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from codegen.cuda.nvcc import find_nvcc
from codegen.cuda.source import cuda_source
from codegen.lower.device import lower
from codegen.targets.gpu import GpuTarget
from tensoropt.ir.expression import Access, Apply, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.nvcc import needs_nvcc

ACCESS = re.compile(r"\b(ld|st)\.global(?:\.nc)?(?:\.v(\d))?\.[a-z](\d+)")


pytestmark = needs_nvcc


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("rest", [0, 2])
def test_one_instruction_each(tmp_path: Path, arch: str, rest: int) -> None:
    """Of 16 bytes where neighbours fill them, or of two elements where the extent is even and no more."""
    target = GpuTarget("cuda", "small", arch=arch, multiprocessors=1)
    functions, sizes = {}, {}
    for dtype in DataType:
        i = Iterator("i", 8192 + rest)
        x, b = (Tensor(name, TensorType(dtype, (Extent(i.extent + 16),))) for name in "xb")
        scope = Scope([i], Apply("max", Access(x, [i]), Access(b, [Index.of(i) + 16])))
        (launch,) = lower(Tensor("y", scope.type), scope, target).launches
        functions[f"kernel_{dtype.value}"] = launch.function
        sizes[f"kernel_{dtype.value}"] = min(16, dtype.itemsize * (2 if rest else 16))
    source, made = tmp_path / "kernels.cu", tmp_path / "kernels.ptx"
    source.write_text(cuda_source(functions, target))
    subprocess.run(
        [find_nvcc().path, "-ptx", f"-arch={arch}", "-std=c++17", "-O3", str(source), "-o", str(made)],
        capture_output=True, check=True,
    )  # fmt: skip
    entries = {text.split("(")[0]: text for text in made.read_text().split(".entry ")[1:]}
    assert entries.keys() == functions.keys()
    for name, text in entries.items():
        found = [(kind, int(count or 1) * int(bits) // 8) for kind, count, bits in ACCESS.findall(text)]
        assert found == [("ld", sizes[name])] * 2 + [("st", sizes[name])], name
