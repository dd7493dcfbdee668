"""Convolutions that cuDNN computes, recognized by their expressions and run with a library of ours in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codegen.libraries.operations import CUDNN, Convolution
from codegen.lower.device import Call, lower
from tensoropt.ir.expression import Access, Apply, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.fake_libraries import variant
from tests.strategies.library_runs import TARGET, built, of_scope, run

F32, F16 = DataType.FLOAT32, DataType.FLOAT16


@dataclass(frozen=True)
class Case:
    """A convolution as the frontend writes it, in one dimension or two; pads at the begin of each axis and its end."""

    images: int = 2
    width: int = 3
    filters: int = 4
    groups: int = 1
    size: tuple[int, ...] = (6, 7)
    kernel: tuple[int, ...] = (3, 3)
    strides: tuple[int, ...] = (1, 1)
    dilations: tuple[int, ...] = (1, 1)
    begin: tuple[int, ...] = (1, 1)
    end: tuple[int, ...] = (1, 1)
    dtype: DataType = F32
    bias: bool = False
    relu: bool = False

    @property
    def out(self) -> list[int]:
        return [
            (size + begin + end - dilation * (taps - 1) - 1) // stride + 1
            for size, begin, end, dilation, taps, stride in zip(
                self.size, self.begin, self.end, self.dilations, self.kernel, self.strides, strict=True
            )
        ]

    def scope(self) -> Scope:
        def tensor(name: str, *shape: int) -> Tensor:
            return Tensor(name, TensorType(self.dtype, tuple(map(Extent, shape))))

        n, f, c = Iterator("n", self.images), Iterator("f", self.filters), Iterator("c", self.width)
        rows = [Iterator(f"y{axis}", extent) for axis, extent in enumerate(self.out)]
        taps = [Iterator(f"r{axis}", extent) for axis, extent in enumerate(self.kernel)]
        channel = Index.of(f) // (self.filters // self.groups) * self.width + c
        places = [
            Index.of(row) * stride + Index.of(tap) * dilation - begin
            for row, tap, stride, dilation, begin in zip(
                rows, taps, self.strides, self.dilations, self.begin, strict=True
            )
        ]
        image = Access(tensor("x", self.images, self.groups * self.width, *self.size), [n, channel, *places])
        weights = Access(tensor("w", self.filters, self.width, *self.kernel), [f, c, *taps])
        sums = Scope([n, f, *rows], Apply("mul", image, weights), [c, *taps])
        if not self.bias and not self.relu:
            return sums
        outer = [Iterator(f"i{axis}", int(extent)) for axis, extent in enumerate(sums.shape)]
        body: Scalar = Access(sums, outer)
        if self.bias:
            body = Apply("add", body, Access(tensor("b", self.filters), [outer[1]]))
        return Scope(outer, Apply("relu", body) if self.relu else body)


def calls(scope: Scope) -> list[Convolution]:
    """The operations that the kernel calls."""
    kernel = lower(Tensor("y", scope.type), scope, TARGET, variant=variant(CUDNN, "implicit_precomp_gemm"))
    found = [launch.call.operation for launch in kernel.entries if isinstance(launch, Call)]
    return [one for one in found if isinstance(one, Convolution)]


def checked(scope: Scope, folder: Path) -> None:
    """The kernel with the library's call gives what the interpreter does."""
    program = of_scope(scope)
    generator = np.random.default_rng(0)
    feeds = {
        tensor.name: generator.integers(-3, 4, tuple(map(int, tensor.shape))).astype(tensor.dtype.numpy)
        for tensor in program.inputs
    }
    made = built(program, {"y": variant(CUDNN, "implicit_precomp_gemm")}, folder)
    np.testing.assert_array_equal(run(made, feeds)["y"], run_program(program, feeds)["y"])


KNOWN = {
    "plain": Case(),
    "strides": Case(strides=(2, 1), begin=(0, 2), end=(0, 2)),
    "dilations": Case(kernel=(2, 3), dilations=(3, 2), begin=(2, 1), end=(2, 1)),
    "groups": Case(groups=2, filters=6),
    "depthwise": Case(groups=4, width=1, filters=4),
    "depthwise with two filters each": Case(groups=3, width=1, filters=6),
    "points": Case(kernel=(1, 1), begin=(0, 0), end=(0, 0)),
    "padded points": Case(kernel=(1, 1), begin=(1, 2), end=(1, 2)),
    "whole": Case(kernel=(6, 7), begin=(0, 0), end=(0, 0)),
    "lines": Case(size=(9,), kernel=(3,), strides=(2,), dilations=(1,), begin=(1,), end=(1,)),
    "bias": Case(bias=True),
    "bias and relu": Case(bias=True, relu=True),
    "halves": Case(dtype=F16, bias=True, relu=True),
    "pads that differ and do not matter": Case(size=(6, 6), strides=(2, 2), begin=(1, 1), end=(0, 0)),
    "one window": Case(size=(2, 4), kernel=(2, 3), strides=(3, 4), begin=(1, 0), end=(0, 1)),
    "one window in the padding": Case(size=(1, 1), kernel=(1, 1), strides=(3, 3), begin=(1, 1), end=(1, 1)),
    "one filter": Case(filters=1, images=1, bias=True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_convolutions(name: str, tmp_path: Path) -> None:
    case = KNOWN[name]
    (found,) = calls(case.scope())
    assert (found.bias, found.relu, found.groups) == (case.bias, case.relu, case.groups)
    assert found.out_size[-1] == case.out[-1]
    checked(case.scope(), tmp_path)


@pytest.mark.parametrize(
    "case",
    [
        Case(begin=(0, 1), end=(2, 1)),
        Case(begin=(-1, 1), end=(1, 1)),
        Case(size=(5,), kernel=(3,), strides=(1,), dilations=(1,), begin=(0,), end=(1,)),
    ],
)
def test_what_cudnn_cannot_say_is_not_called(case: Case) -> None:
    assert calls(case.scope()) == []


def test_another_fill_than_zero_is_not_called() -> None:
    scope = Case().scope()
    image, weights = scope.body.arguments  # type: ignore[union-attr]
    filled = Access(image.source, image.indices, 1.0)  # type: ignore[union-attr]
    assert calls(Scope(scope.traversal, Apply("mul", filled, weights), scope.reduction)) == []


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Windows of any form, in one dimension or two."""
    rank, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    begin = axes(0, 3)
    end = begin if draw(st.booleans()) else axes(0, 3)
    case = Case(
        draw(st.integers(1, 2)), draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)), groups, axes(1, 8), axes(1, 3),
        axes(1, 3), axes(1, 3), begin, end, draw(st.sampled_from([F32, F16])), draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip
    assume(all(extent > 0 for extent in case.out))
    return case


@settings(max_examples=100, deadline=None)
@given(cases())
def test_whatever_is_called_is_the_convolution(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    """Where the whole kernel is one call; others need a C++ compiler and are tested with few examples."""
    scope = case.scope()
    kernel = lower(Tensor("y", scope.type), scope, TARGET, variant=variant(CUDNN, "implicit_precomp_gemm"))
    if all(isinstance(launch, Call) for launch in kernel.entries):
        checked(scope, tmp_path_factory.getbasetemp())
    elif case.begin == case.end and (case.bias or not case.relu):
        assert [launch for launch in kernel.entries if isinstance(launch, Call)]
