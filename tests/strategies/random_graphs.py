"""Random small ONNX graphs: convolutions of any geometry, products, normalisations, poolings, element-wise and moving nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]
Feeds = dict[str, np.ndarray[Any, Any]]

_MOST_ELEMENTS = 4000


class GraphMaker:
    """Adds nodes to a graph one after the other; every tensor made so far can be read again."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)
        self._numbers = np.random.default_rng([len(seed), *seed.encode()])
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._shapes: dict[str, Shape] = {}
        self.feeds: Feeds = {}
        self._read: set[str] = set()

    def pick(self, items: Sequence[Any]) -> Any:
        """One of several."""
        return items[self.random.randrange(len(items))]

    def between(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return self.random.randint(low, high)

    def array(self, *shape: int) -> np.ndarray[Any, Any]:
        """Small multiples of a quarter, which floats add exactly."""
        return (self._numbers.integers(-6, 7, shape) / 4).astype(np.float32)

    def constant(self, *shape: int) -> str:
        """A weight."""
        return self.given(self.array(*shape))

    def given(self, array: np.ndarray[Any, Any]) -> str:
        """A constant with these contents."""
        name = f"w{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> None:
        """A node with one output of this shape."""
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=f"n{len(self._nodes)}", **attributes))
        self._shapes[name] = shape
        self._read |= set(inputs)

    def tensor(self, fits: Callable[[Shape], bool]) -> str | None:
        """A tensor of a fitting shape; later ones are likelier."""
        names = [name for name, shape in self._shapes.items() if fits(shape)]
        return names[max(self.between(0, len(names) - 1), self.between(0, len(names) - 1))] if names else None

    def shape(self, name: str) -> Shape:
        """The shape of a tensor."""
        return self._shapes[name]

    def model(self, nodes: int) -> onnx.ModelProto:
        """A model of about so many nodes; its outputs are what no node reads, and now and then another tensor."""
        rank = self.pick((2, 3, 4, 4, 4, 4))
        shape = [self.between(1, 2), self.between(1, 6), *(self.between(3, 7) for _ in range(rank - 2))]
        self._shapes["x"] = tuple(shape)
        self.feeds["x"] = self.array(*shape)
        while len(self._nodes) < nodes:
            self.pick(_NODES)(self)
        outputs = [name for name in self._shapes if name not in self._read and name != "x"]
        outputs += [name for name in self._shapes if name != "x" and name not in outputs and not self.between(0, 7)]
        graph = helper.make_graph(
            self._nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, self._shapes[name]) for name in outputs],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _small(shape: Shape) -> bool:
    return 0 < int(np.prod(shape)) <= _MOST_ELEMENTS


def _image(shape: Shape) -> bool:
    return len(shape) in (3, 4) and all(shape)


def _convolution(maker: GraphMaker) -> None:
    name = maker.tensor(_image)
    if name is None:
        return
    images, channels, *space = maker.shape(name)
    groups = maker.pick([group for group in range(1, channels + 1) if channels % group == 0])
    filters = groups * maker.between(1, 3)
    kernel = [maker.between(1, min(4, extent + 1)) for extent in space]
    strides, dilations = [maker.between(1, 3) for _ in space], [maker.pick((1, 1, 2, 3)) for _ in space]
    pads = [maker.between(0, 2) for _ in range(2 * len(space))]
    out = [
        (extent + pads[axis] + pads[axis + len(space)] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis, extent in enumerate(space)
    ]
    if min(out) < 1:
        return
    inputs = [name, maker.constant(filters, channels // groups, *kernel)]
    inputs += [maker.constant(filters)] if maker.between(0, 1) else []
    geometry = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads, "group": groups}
    maker.add("Conv", inputs, (images, filters, *out), **geometry)


def _transposed(maker: GraphMaker) -> None:
    name = maker.tensor(_image)
    if name is None:
        return
    images, channels, *space = maker.shape(name)
    groups = maker.pick([group for group in range(1, channels + 1) if channels % group == 0])
    each = maker.between(1, 3)
    kernel, strides = [maker.between(1, 4) for _ in space], [maker.between(1, 3) for _ in space]
    dilations = [maker.pick((1, 1, 1, 2)) for _ in space]
    pads = [maker.between(0, (kernel[axis % len(space)] - 1) // 2) for axis in range(2 * len(space))]
    extra = [maker.between(0, strides[axis] - 1) for axis in range(len(space))]
    out = [
        (extent - 1) * strides[axis]
        + dilations[axis] * (kernel[axis] - 1)
        + 1
        + extra[axis]
        - pads[axis]
        - pads[axis + len(space)]
        for axis, extent in enumerate(space)
    ]
    shape = (images, groups * each, *out)
    if min(out) < 1 or not _small(shape):
        return
    inputs = [name, maker.constant(channels, each, *kernel)]
    inputs += [maker.constant(groups * each)] if maker.between(0, 1) else []
    geometry = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads, "group": groups}
    maker.add("ConvTranspose", inputs, shape, output_padding=extra, **geometry)


def _matmul(maker: GraphMaker) -> None:
    name = maker.tensor(lambda shape: len(shape) > 1)
    if name is None:
        return
    *lead, inner = maker.shape(name)
    columns = maker.between(1, 6)
    batch = lead[:-1] if len(lead) > 1 and maker.between(0, 2) == 0 else []
    maker.add("MatMul", [name, maker.constant(*batch, inner, columns)], (*lead, columns))


def _chained(maker: GraphMaker) -> None:
    """Two projections one after the other, which may be one."""
    _matmul(maker)
    _matmul(maker)


def _siblings(maker: GraphMaker) -> None:
    """Two or three projections of one input."""
    name = maker.tensor(lambda shape: len(shape) > 1)
    if name is None:
        return
    *lead, inner = maker.shape(name)
    for _ in range(maker.between(2, 3)):
        columns = maker.between(1, 5)
        maker.add("MatMul", [name, maker.constant(inner, columns)], (*lead, columns))


def _scores(maker: GraphMaker) -> None:
    """The product of a tensor with its own transpose, and perhaps a softmax."""
    name = maker.tensor(lambda shape: len(shape) > 1 and shape[-2] < 12)
    if name is None:
        return
    shape = maker.shape(name)
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    maker.add("Transpose", [name], (*shape[:-2], shape[-1], shape[-2]), perm=order)
    turned = list(maker._shapes)[-1]
    maker.add("MatMul", [name, turned], (*shape[:-1], shape[-2]))
    if maker.between(0, 1):
        maker.add("Softmax", [list(maker._shapes)[-1]], (*shape[:-1], shape[-2]), axis=-1)


def _gemm(maker: GraphMaker) -> None:
    name = maker.tensor(lambda shape: len(shape) == 2)
    if name is None:
        return
    rows, inner = maker.shape(name)
    across, down = maker.between(0, 1), maker.between(0, 1)
    if across:
        rows, inner = inner, rows
    columns = maker.between(1, 6)
    inputs = [name, maker.constant(*((columns, inner) if down else (inner, columns)))]
    inputs += [maker.constant(columns)] if maker.between(0, 1) else []
    factors = {"alpha": maker.pick((1.0, 0.5)), "beta": maker.pick((1.0, 2.0))}
    maker.add("Gemm", inputs, (rows, columns), transA=across, transB=down, **factors)


def _einsum(maker: GraphMaker) -> None:
    name = maker.tensor(lambda shape: len(shape) == 3)
    if name is None:
        return
    one, two, three = maker.shape(name)
    d, e = maker.between(1, 4), maker.between(1, 4)
    match maker.between(0, 3):
        case 0:
            maker.add("Einsum", [name, maker.constant(three, d)], (d, one, two), equation="abc,cd->dab")
        case 1:
            operands = [name, maker.constant(three, d), maker.constant(d, e)]
            maker.add("Einsum", operands, (one, two, e), equation="abc,cd,de->abe")
        case 2:
            maker.add("Einsum", [name, maker.constant(one, d, three)], (one, two, d), equation="abc,adc->abd")
        case _:
            operands = [name, maker.constant(two), maker.constant(three, d)]
            maker.add("Einsum", operands, (one, d), equation="abc,b,cd->ad")


def _batch_norm(maker: GraphMaker) -> None:
    name = maker.tensor(lambda shape: len(shape) > 1)
    if name is None:
        return
    channels = maker.shape(name)[1]
    variance = maker.given(np.abs(maker.array(channels)) + np.float32(0.5))
    parts = [maker.constant(channels), maker.constant(channels), maker.constant(channels), variance]
    maker.add("BatchNormalization", [name, *parts], maker.shape(name))


def _pool(maker: GraphMaker) -> None:
    name = maker.tensor(_image)
    if name is None:
        return
    images, channels, *space = maker.shape(name)
    kernel = [maker.between(1, min(3, extent)) for extent in space]
    strides = [maker.between(1, 3) for _ in space]
    pads = [maker.between(0, size // 2) for size in (*kernel, *kernel)]
    if any(pad >= size for pad, size in zip(pads, (*kernel, *kernel), strict=True)):
        return
    out = [
        (extent + pads[axis] + pads[axis + len(space)] - kernel[axis]) // strides[axis] + 1
        for axis, extent in enumerate(space)
    ]
    operator = maker.pick(("MaxPool", "AveragePool"))
    more = {"count_include_pad": maker.between(0, 1)} if operator == "AveragePool" else {}
    maker.add(operator, [name], (images, channels, *out), kernel_shape=kernel, strides=strides, pads=pads, **more)


def _pointwise(maker: GraphMaker) -> None:
    name = maker.tensor(lambda shape: True)
    assert name is not None
    shape = maker.shape(name)
    if maker.between(0, 1):
        maker.add(maker.pick(("Relu", "Tanh", "Sigmoid", "Neg", "Abs")), [name], shape)
        return
    other = maker.tensor(lambda found: found == shape)
    if other is None or maker.between(0, 1):
        other = maker.constant(*(extent if maker.between(0, 1) else 1 for extent in shape))
    operands = [name, other]
    maker.random.shuffle(operands)
    maker.add(maker.pick(("Add", "Add", "Mul", "Sub")), operands, shape)


def _move(maker: GraphMaker) -> None:
    name = maker.tensor(lambda shape: len(shape) > 1)
    if name is None:
        return
    shape = maker.shape(name)
    axis = maker.between(0, len(shape) - 1)
    match maker.between(0, 3):
        case 0:
            order = list(range(len(shape)))
            maker.random.shuffle(order)
            maker.add("Transpose", [name], tuple(shape[place] for place in order), perm=order)
        case 1:
            joined = (
                (*shape[:-2], shape[-2] * shape[-1]) if maker.between(0, 1) else (shape[0], int(np.prod(shape[1:])))
            )
            maker.add("Reshape", [name, maker.given(np.asarray(joined, np.int64))], joined)
        case 2:
            start, step = maker.between(0, shape[axis] - 1), maker.between(1, 2)
            length = -(-(shape[axis] - start) // step)
            bounds = [maker.given(np.asarray([found], np.int64)) for found in (start, shape[axis], axis, step)]
            maker.add("Slice", [name, *bounds], (*shape[:axis], length, *shape[axis + 1 :]))
        case _:
            rest = [(place, extent) for place, extent in enumerate(shape) if place != axis]
            other = maker.tensor(lambda found: len(found) == len(shape) and all(found[at] == size for at, size in rest))
            assert other is not None
            total = shape[axis] + maker.shape(other)[axis]
            result = (*shape[:axis], total, *shape[axis + 1 :])
            if _small(result):
                maker.add("Concat", [name, other], result, axis=axis)


def _reduce(maker: GraphMaker) -> None:
    name = maker.tensor(lambda shape: len(shape) > 1)
    if name is None:
        return
    shape = maker.shape(name)
    axis = maker.between(1, len(shape) - 1)
    if maker.between(0, 2) == 0:
        maker.add("Softmax", [name], shape, axis=axis)
        return
    operator = maker.pick(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceMean"))
    maker.add(operator, [name], (*shape[:axis], 1, *shape[axis + 1 :]), axes=[axis], keepdims=1)


_NODES: tuple[Callable[[GraphMaker], None], ...] = (
    *[_convolution] * 7,
    *[_transposed] * 4,
    *[_matmul] * 2,
    _chained,
    _siblings,
    _scores,
    _gemm,
    _einsum,
    _batch_norm,
    *[_pool] * 2,
    *[_pointwise] * 4,
    *[_move] * 3,
    *[_reduce] * 2,
)


def random_model(seed: str) -> tuple[onnx.ModelProto, Feeds]:
    """A model and its input; the same for a seed on every run."""
    maker = GraphMaker(seed)
    return maker.model(maker.between(2, 6)), maker.feeds
