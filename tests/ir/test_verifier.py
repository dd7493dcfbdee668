"""Each check of the verifier finds what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from tensoropt.ir.expression import Access, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.ir.verifier import VerificationError, problems, verify


def tensor(name: str, *shape: int, dtype: DataType = DataType.FLOAT32) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(map(Extent, shape))))


def copy(source: Tensor, target: str) -> Compute:
    iterators = [Iterator(f"i{axis}", extent) for axis, extent in enumerate(source.shape)]
    scope = Scope(iterators, Access(source, iterators))
    return Compute(Tensor(target, scope.type), scope)


X = tensor("x", 4)
GOOD = Program("good", (X,), (tensor("z", 4),), {}, (copy(X, "y"), copy(tensor("y", 4), "z")))


def test_a_good_program_has_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("program", "check"),
    [
        (GOOD.with_statements(reversed(GOOD.statements)), "defined before use"),
        (GOOD.with_statements(GOOD.statements[:1]), "defined before use"),
        (GOOD.with_statements([*GOOD.statements, copy(X, "y")]), "defined once"),
        (GOOD.with_statements(GOOD.statements, {"x": np.zeros(4, np.float32)}), "defined once"),
        (GOOD.with_statements(GOOD.statements, {"c": np.zeros(4, np.complex64)}), "constants have types"),
        (
            Program("p", (), (tensor("z", 4),), {"x": np.zeros(5, np.float32)}, (copy(X, "z"),)),
            "types agree",
        ),
        (Program("p", (X,), (tensor("x", 4, dtype=DataType.INT32),), {}, ()), "types agree"),
        (GOOD.with_statements([*GOOD.statements, copy(X, "")]), "names are given"),
    ],
)
def test_each_check_finds_its_problem(program: Program, check: str) -> None:
    assert [problem.check for problem in problems(program)] == [check]
    with pytest.raises(VerificationError, match="is not well formed"):
        verify(program)
