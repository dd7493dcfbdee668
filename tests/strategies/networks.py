"""Small hand-written programs of the kinds that networks are made of."""

from collections.abc import Sequence

import numpy as np

from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.pass_manager import Context

F32 = DataType.FLOAT32


def tensor(name: str, *shape: int) -> Tensor:
    """An f32 tensor."""
    return Tensor(name, TensorType(F32, tuple(Extent(extent) for extent in shape)))


def pointwise(output: Tensor, operation: str, *inputs: Tensor) -> Compute:
    """One scalar operation on broadcast inputs (axes aligned at the right, or of extent 1)."""
    iterators = [Iterator(f"i{axis}", extent) for axis, extent in enumerate(output.shape)]

    def read(source: Tensor) -> Scalar:
        tail = iterators[len(iterators) - len(source.shape) :]
        indices = [
            Index.of(0 if extent == 1 else iterator) for iterator, extent in zip(tail, source.shape, strict=True)
        ]
        return Access(source, indices)

    return Compute(output, Scope(iterators, Apply(operation, *map(read, inputs))), (f"{operation}_{output.name}",))


def fold_last(output: Tensor, reducer: Reducer, source: Tensor) -> Compute:
    """A reduction over the last axis, which stays as an axis of extent 1."""
    iterators = [Iterator(f"i{axis}", extent) for axis, extent in enumerate(output.shape)]
    last = Iterator("k", source.shape[-1])
    body = Access(source, [*iterators[:-1], last])
    return Compute(output, Scope(iterators, body, [last], reducer), (f"{reducer.value}_{output.name}",))


def convolution(
    output: Tensor,
    image: Tensor,
    kernel: Tensor,
    padding: int | tuple[int, int],
    apart: tuple[int, int] = (1, 1),
) -> Compute:
    """A convolution of stride 1, [N, C, H, W] by [F, C, R, S], with as much padding at the top and the left as is said."""
    above, before = (padding, padding) if isinstance(padding, int) else padding
    n, f, h, w = (Iterator(name, extent) for name, extent in zip("nfhw", output.shape, strict=True))
    c, r, s = (Iterator(name, extent) for name, extent in zip("crs", kernel.shape[1:], strict=True))
    body = Apply(
        "mul",
        Access(
            image, [n, c, Index.of(h) + Index.of(r) * apart[0] - above, Index.of(w) + Index.of(s) * apart[1] - before]
        ),
        Access(kernel, [f, c, r, s]),
    )
    return Compute(output, Scope([n, f, h, w], body, [c, r, s]), ("Conv_0",))


def softmax_statements(output: Tensor, source: Tensor) -> list[Compute]:
    """Softmax over the last axis in four statements."""
    row = (*source.shape[:-1], 1)
    largest, shifted, powers, total = (
        tensor(f"{output.name}.max", *row),
        tensor(f"{output.name}.shifted", *source.shape),
        tensor(f"{output.name}.exp", *source.shape),
        tensor(f"{output.name}.sum", *row),
    )
    return [
        fold_last(largest, Reducer.MAX, source),
        pointwise(shifted, "sub", source, largest),
        pointwise(powers, "exp", shifted),
        fold_last(total, Reducer.SUM, powers),
        pointwise(output, "div", powers, total),
    ]


def program(
    statements: Sequence[Statement], inputs: Sequence[Tensor], outputs: Sequence[Tensor], **constants: Array
) -> Program:
    """A program."""
    return Program("test", tuple(inputs), tuple(outputs), constants, tuple(statements))


def random_array(source: Tensor, seed: int = 0) -> Array:
    """Standard normal values."""
    shape = tuple(int(extent) for extent in source.shape)
    return np.random.default_rng([seed, *source.name.encode()]).standard_normal(shape).astype(source.dtype.numpy)


def literal(value: float) -> Constant:
    """An f32 constant."""
    return Constant(value, F32)


class FixedCosts:
    """A cost model for tests: everything costs its number of kernels."""

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """One second a kernel."""
        return KernelCost(1.0)

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """One second a kernel."""
        return [KernelCost(float(len(alternative.kernels))) for alternative in alternatives]


def context() -> Context:
    """A context without a target."""
    return Context(FixedCosts())
