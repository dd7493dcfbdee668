"""Products that cuBLASLt computes, recognized by their expressions and run with a library of ours in its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.libraries.operations import CUBLASLT, Product
from codegen.lower.device import Call, lower
from tensoropt.ir.expression import Access, Apply, Cast, Scalar, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.fake_libraries import variant
from tests.strategies.library_runs import TARGET, built, of_scope, run

F32, F16, BF16 = DataType.FLOAT32, DataType.FLOAT16, DataType.BFLOAT16


@dataclass(frozen=True)
class Case:
    """``Σ<k> A·B`` with axes in any order: letters of ``extents`` are iterators, and of an operand or the output its axes."""

    extents: dict[str, int]
    left: str
    right: str
    out: str
    dtype: DataType = F32
    bias: str = ""
    relu: bool = False
    wide: bool = False
    """Operands of halves, whose sum stays f32."""

    def scope(self) -> Scope:
        axes = {letter: Iterator(letter, extent) for letter, extent in self.extents.items()}

        def read(name: str, letters: str, dtype: DataType) -> Access:
            shape = tuple(Extent(axes[letter].extent) for letter in letters)
            return Access(Tensor(name, TensorType(dtype, shape)), [axes[letter] for letter in letters])

        factors: list[Scalar] = [read("a", self.left, self.dtype), read("b", self.right, self.dtype)]
        if self.wide:
            factors = [Cast(factor, F32) for factor in factors]
        summed = [axes[letter] for letter in self.extents if letter not in self.out]
        sums = Scope([axes[letter] for letter in self.out], Apply("mul", *factors), summed)
        if not self.bias and not self.relu:
            return sums
        outer = [Iterator(f"{letter}_", axes[letter].extent) for letter in self.out]
        body: Scalar = Access(sums, outer)
        if self.bias:
            shape = tuple(Extent(axes[letter].extent) for letter in self.bias)
            added = Access(
                Tensor("c", TensorType(sums.dtype, shape)), [outer[self.out.index(letter)] for letter in self.bias]
            )
            body = Apply("add", body, added)
        return Scope(outer, Apply("relu", body) if self.relu else body)


def calls(scope: Scope) -> list[Product]:
    """The operations that the kernel calls."""
    kernel = lower(Tensor("y", scope.type), scope, TARGET, variant=variant(CUBLASLT))
    return [
        launch.call.operation
        for launch in kernel.entries
        if isinstance(launch, Call) and isinstance(launch.call.operation, Product)
    ]


def checked(scope: Scope, folder: object, tolerance: float = 1e-5) -> None:
    """The kernel with the library's call gives what the interpreter does."""
    program = of_scope(scope)
    generator = np.random.default_rng(0)
    feeds = {
        tensor.name: generator.integers(-3, 4, tuple(map(int, tensor.shape))).astype(tensor.dtype.numpy)
        for tensor in program.inputs
    }
    made = built(program, {"y": variant(CUBLASLT)}, folder)  # type: ignore[arg-type]
    found, expected = run(made, feeds)["y"], run_program(program, feeds)["y"]
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance)


SIZES = {"m": 5, "n": 7, "k": 6}
KNOWN = {
    "rows by columns": Case(SIZES, "mk", "kn", "mn"),
    "transposed": Case(SIZES, "km", "nk", "mn"),
    "transposed result": Case(SIZES, "mk", "kn", "nm"),
    "batch": Case({"b": 3, **SIZES}, "bmk", "bkn", "bmn"),
    "batch inside": Case({"b": 3, **SIZES}, "mbk", "kbn", "bmn"),
    "one matrix for all": Case({"b": 3, **SIZES}, "bmk", "kn", "bmn"),
    "pixels": Case({"b": 3, "f": 4, "c": 6, "y": 5, "x": 7}, "fc", "bcyx", "bfyx"),
    "vector": Case({"m": 5, "k": 6}, "mk", "k", "m"),
    "several depths": Case({"m": 5, "n": 7, "k": 3, "l": 4}, "mkl", "nkl", "mn"),
    "bias of columns": Case(SIZES, "mk", "kn", "mn", bias="n"),
    "bias and relu": Case({"b": 2, **SIZES}, "bmk", "kn", "bmn", bias="n", relu=True),
    "relu": Case(SIZES, "mk", "nk", "mn", relu=True),
    "halves": Case(SIZES, "mk", "nk", "mn", dtype=F16, bias="n"),
    "halves of the other kind": Case(SIZES, "mk", "nk", "mn", dtype=BF16),
    "halves summed as f32": Case(SIZES, "mk", "nk", "mn", dtype=F16, wide=True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_products(name: str, tmp_path: object) -> None:
    case = KNOWN[name]
    (found,) = calls(case.scope())
    assert (found.bias, found.relu) == (bool(case.bias), case.relu), "all of it is the library's"
    assert found.operands == case.dtype.value
    checked(case.scope(), tmp_path)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Axes of each role, none to two, mostly one after another as roles have them, else in any order."""
    extents: dict[str, int] = {}
    letters: dict[str, str] = {}
    for role, least in (("b", 0), ("m", 0), ("n", 0), ("k", 1)):
        letters[role] = (role + role.upper())[: draw(st.integers(least, 2))]
        extents |= {letter: draw(st.integers(1, 5)) for letter in letters[role]}
    shuffled = draw(st.integers(0, 4)) == 0

    def axes(roles: str) -> str:
        found = "".join(letters[role] for role in draw(st.permutations(roles)))
        return "".join(draw(st.permutations(found))) if shuffled else found

    left, right, out = axes("bmk"), axes("bkn"), axes("bmn")
    bias = draw(st.sampled_from(["", "", letters["n"], letters["m"], *out]))
    return Case(extents, left, right, out, draw(st.sampled_from([F32, F32, F16])), bias, draw(st.booleans()))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_whatever_is_called_is_the_product(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    """Where the whole kernel is one call; others need a C++ compiler and are below."""
    scope = case.scope()
    kernel = lower(Tensor("y", scope.type), scope, TARGET, variant=variant(CUBLASLT))
    if all(isinstance(launch, Call) for launch in kernel.entries):
        checked(scope, tmp_path_factory.getbasetemp())
