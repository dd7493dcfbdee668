"""TVM's descriptions of tensor cores' instructions, which schedules name. Parsing them takes seconds: they are, where one does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tvm import s_tir

_PACKAGE = "tvm.s_tir.tensor_intrin"
_MARK = "mma_"
"""A part of the name of every such instruction."""


def skip_all() -> None:
    """Has MetaSchedule be imported without the instructions of all hardware, which take 20 seconds. Its modules stay importable."""
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(Path(str(s_tir.__file__)).parent / "tensor_intrin")]
        sys.modules[_PACKAGE] = package


def tensor_core_groups() -> list[Any]:
    """Names of the instructions that multiply 16 x 16 by 16 x 16 of f16 and add in f32, the second operand transposed or not.

    Operands come from static shared memory and results go there.
    """
    skip_all()
    from tvm.s_tir.tensor_intrin import cuda

    return [
        cuda.get_wmma_intrin_group("shared", "shared", "float16", "float32", transposed) for transposed in (False, True)
    ]


def require_named_in(text: str) -> None:
    """Parses the instructions where a schedule's text names some."""
    if _MARK in text:
        tensor_core_groups()
