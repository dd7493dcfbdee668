"""Models of one operator in f64 with a random weighted sum of its outputs as the loss, to be differentiated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """An operator on operands: a shape is an input in f64, an array a constant, None is left out.

    ``low`` and ``high`` bound the random inputs, ``ties`` rounds them so that some are equal; ``torch`` says whether
    ``peers.torch_graph`` has the operator in this form.
    """

    operator: str
    operands: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 20
    low: float = -2.0
    high: float = 2.0
    ties: bool = False
    torch: bool = True

    def __str__(self) -> str:
        return self.operator

    @property
    def inputs(self) -> list[str]:
        """The names of what is differentiated by."""
        return [f"x{place}" for place, operand in enumerate(self.operands) if isinstance(operand, tuple)]

    def feeds(self, seed: int = 0) -> dict[str, Array]:
        """Values of the inputs."""
        generator = np.random.default_rng(seed)
        shapes = {f"x{place}": operand for place, operand in enumerate(self.operands)}
        values = {name: generator.uniform(self.low, self.high, shapes[name]) for name in self.inputs}
        return {name: np.round(value) if self.ties else value for name, value in values.items()}

    def model(self) -> onnx.ModelProto:
        """The operator, and ``loss = Σ output · probe``."""
        names = [f"x{place}" if operand is not None else "" for place, operand in enumerate(self.operands)]
        constants = [
            numpy_helper.from_array(operand, name)
            for name, operand in zip(names, self.operands, strict=True)
            if isinstance(operand, np.ndarray)
        ]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.DOUBLE, operand)
            for name, operand in zip(names, self.operands, strict=True)
            if isinstance(operand, tuple)
        ]
        node = helper.make_node(self.operator, names, ["y"], "node", **self.attributes)
        opsets = [helper.make_opsetid("", self.opset)]
        bare = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name="y")], constants)
        shaped = onnx.shape_inference.infer_shapes(helper.make_model(bare, opset_imports=opsets, ir_version=9))
        shape = [found.dim_value for found in shaped.graph.output[0].type.tensor_type.shape.dim]
        probe = np.random.default_rng(7).standard_normal(shape)
        axes = numpy_helper.from_array(np.arange(len(shape)), "axes")
        sums = (
            helper.make_node("ReduceSum", ["weighted", "axes"], ["loss"], "sum", keepdims=0)
            if self.opset >= 13
            else helper.make_node("ReduceSum", ["weighted"], ["loss"], "sum", keepdims=0)
        )
        graph = helper.make_graph(
            [node, helper.make_node("Mul", ["y", "probe"], ["weighted"], "weigh"), sums],
            self.operator,
            inputs,
            [helper.make_tensor_value_info("loss", TensorProto.DOUBLE, [])],
            [*constants, numpy_helper.from_array(probe, "probe"), *([axes] if self.opset >= 13 else [])],
        )
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


def _number(value: float) -> Array:
    return np.array(value)


_IMAGE = (2, 4, 7, 6)
_WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1]}

CASES = [
    *(
        Case(name, ((3, 4),))
        for name in (
            "Neg", "Abs", "Relu", "Exp", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Sign", "Floor", "Ceil", "Round",
            "LeakyRelu", "Identity",
        )
    ),
    *(
        Case(name, ((3, 4),), torch=False)
        for name in (
            "Atan", "Sinh", "Cosh", "Asinh", "Elu", "Selu", "Gelu", "HardSigmoid", "HardSwish", "Softplus", "Softsign",
            "Mish", "ThresholdedRelu", "Shrink",
        )
    ),
    Case("Gelu", ((3, 4),), {"approximate": "tanh"}, torch=False),
    *(Case(name, ((3, 4),), low=0.1) for name in ("Log", "Sqrt", "Reciprocal")),
    *(Case(name, ((3, 4),), low=-0.9, high=0.9, torch=False) for name in ("Tan", "Asin", "Acos", "Atanh")),
    Case("Acosh", ((3, 4),), low=1.2, torch=False),
    *(Case(name, ((3, 1, 4), (2, 1))) for name in ("Add", "Sub", "Mul", "Max", "Min")),
    *(Case(name, ((3, 1, 4), (2, 1)), low=0.3) for name in ("Div", "Pow")),
    Case("Mod", ((3, 4), (3, 4)), {"fmod": 1}, low=0.3, high=4.0, torch=False),
    Case("Mean", ((3, 4), (4,), (3, 1)), torch=False),
    Case("Sum", ((3, 4), (4,), (3, 1))),
    *(Case("Pow", ((3, 4), _number(power)), low=0.3) for power in (2.0, 3.0, 0.5, -0.5, -1.0, 1.7, 0.0)),
    Case("Where", (np.array([True, False, True]), (2, 3), (3,))),
    Case("Clip", ((9,), _number(-0.5), _number(0.5))),
    Case("PRelu", (_IMAGE, (4, 1, 1))),
    Case("Max", ((4, 4), (4, 4)), ties=True),
    Case("Min", ((4, 4), (4,)), ties=True),
    Case("Relu", ((4, 4),), ties=True),
    Case("Abs", ((4, 4),), ties=True),
    Case("Clip", ((4, 4), _number(-1.0), _number(1.0)), ties=True),
    Case("LeakyRelu", ((4, 4),), ties=True),
    Case("MatMul", ((2, 3, 4), (4, 5))),
    Case("MatMul", ((2, 1, 3, 4), (3, 4, 2))),
    Case("MatMul", ((4,), (3, 4, 2)), torch=True),
    Case("Gemm", ((3, 2), (4, 3), (4,)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", ((2, 3), (3, 4))),
    Case("Einsum", ((2, 3, 4), (4, 3, 5)), {"equation": "bij,jik->kb"}),
    Case("Conv", (_IMAGE, (6, 2, 3, 2), (6,)), {**_WINDOW, "group": 2, "pads": [1, 0, 1, 0], "dilations": [1, 2]}),
    Case("Conv", (_IMAGE, (6, 4, 3, 2)), {**_WINDOW, "pads": [2, 0, 1, 1]}),
    Case("Conv", (_IMAGE, (4, 1, 3, 3)), {"group": 4, "pads": [1, 1, 1, 1]}),
    Case("Conv", ((1, 2, 9), (3, 2, 3)), {"kernel_shape": [3], "strides": [3], "dilations": [2], "pads": [2, 2]}),
    Case("Conv", ((1, 2, 8), (3, 2, 3)), {"kernel_shape": [3], "strides": [2], "dilations": [2], "pads": [2, 1]}),
    Case("ConvTranspose", (_IMAGE, (4, 3, 3, 3), (3,)), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    Case("ConvTranspose", (_IMAGE, (4, 1, 2, 3)), {"strides": [3, 1], "dilations": [1, 2], "group": 2}),
    Case("MaxPool", (_IMAGE,), {**_WINDOW, "pads": [0, 1, 2, 0]}),
    Case("MaxPool", (_IMAGE,), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("MaxPool", (_IMAGE,), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, ties=True),
    Case("MaxPool", (_IMAGE,), {**_WINDOW, "ceil_mode": 1, "dilations": [2, 1]}, ties=True),
    Case("AveragePool", (_IMAGE,), {**_WINDOW, "pads": [1, 1, 1, 1]}),
    Case("AveragePool", (_IMAGE,), {**_WINDOW, "pads": [0, 0, 1, 1], "count_include_pad": 1}),
    Case("LpPool", (_IMAGE,), {**_WINDOW, "p": 2}, low=0.2, torch=False),
    Case("GlobalAveragePool", (_IMAGE,)),
    Case("GlobalMaxPool", (_IMAGE,), torch=False),
    Case("GlobalLpPool", (_IMAGE,), {"p": 3}, torch=False),
    *(
        Case(name, ((2, 3, 4), _ints(0, 2)), low=0.2, torch=name[6:] in ("Sum", "Mean", "Max", "Min"))
        for name in (
            "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
            "ReduceLogSum", "ReduceLogSumExp",
        )
    ),
    Case("ReduceMax", ((3, 5), _ints(1)), ties=True),
    Case("ReduceMin", ((3, 5), _ints(0)), {"keepdims": 0}, ties=True),
    Case("ReduceProd", ((3, 5), _ints(1)), ties=True, torch=False),
    Case("Softmax", ((2, 3, 4),), {"axis": 1}),
    Case("Softmax", ((2, 3, 4),), opset=11),
    Case("LogSoftmax", ((2, 3, 4),), {"axis": -1}, torch=False),
    Case("SoftmaxCrossEntropyLoss", ((3, 5), _ints(0, 4, 2)), opset=13),
    Case(
        "SoftmaxCrossEntropyLoss", ((2, 3, 2), _ints(0, 2, 1, 1).reshape(2, 2), (3,)), {"ignore_index": 1}, opset=13,
        low=0.2, torch=False,
    ),
    Case("NegativeLogLikelihoodLoss", ((3, 5), _ints(0, 4, 2)), {"reduction": "none"}, opset=13, torch=False),
    Case("BatchNormalization", (_IMAGE, (4,), (4,), (4,), (4,)), low=0.3, torch=False),
    Case("BatchNormalization", (_IMAGE, (4,), (4,), np.array([0.5, -1, 0.2, 2]), np.array([1, 0.5, 2, 0.7]))),
    Case("LayerNormalization", ((3, 4, 5), (4, 5), (4, 5)), {"axis": 1, "epsilon": 0.1}),
    Case("InstanceNormalization", (_IMAGE, (4,), (4,)), torch=False),
    Case("GroupNormalization", (_IMAGE, (2,), (2,)), {"num_groups": 2}, opset=18, torch=False),
    Case("RMSNormalization", ((3, 4, 5), (5,)), opset=23, torch=False),
    Case("LpNormalization", ((3, 4),), {"axis": 1, "p": 2}, torch=False),
    Case("LRN", (_IMAGE,), {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}),
    Case("Reshape", ((2, 3, 4), _ints(4, 6))),
    Case("Reshape", ((2, 3, 4), _ints(2, 2, 3, 2))),
    Case("Flatten", ((2, 3, 4),), {"axis": 2}),
    Case("Transpose", ((2, 3, 4),), {"perm": [1, 2, 0]}),
    Case("Unsqueeze", ((2, 3), _ints(-1, 0))),
    Case("Squeeze", ((1, 3, 1), _ints(2))),
    Case("Expand", ((3, 1), _ints(2, 1, 4))),
    Case("Tile", ((2, 3), _ints(2, 3)), torch=False),
    Case("DepthToSpace", ((1, 8, 2, 3),), {"blocksize": 2}, torch=False),
    Case("SpaceToDepth", ((1, 2, 4, 6),), {"blocksize": 2}, torch=False),
    Case("Dropout", ((3, 4),), opset=11),
    Case("Concat", ((2, 3), (2, 1), (2, 4)), {"axis": -1}),
    Case("Slice", ((5, 6), _ints(1, -4), _ints(5, -1), _ints(0, 1), _ints(2, 1))),
    Case("Slice", ((5, 6), _ints(4), _ints(0), _ints(0), _ints(-2)), torch=False),
    Case("Split", ((5, 6),), {"axis": 1, "num_outputs": 1}, torch=False),
    Case("Pad", ((2, 3), _ints(0, 1, 2, 0))),
    Case("Pad", ((4, 5), _ints(1, 2, 2, 0)), {"mode": "reflect"}, torch=False),
    Case("Pad", ((4, 5), _ints(1, 2, 2, 0)), {"mode": "edge"}, torch=False),
    Case("Pad", ((4, 5), _ints(1, 2, 2, 0)), {"mode": "wrap"}, torch=False),
    Case("Trilu", ((4, 5),), torch=False),
    Case("CumSum", ((4, 5), np.array(1)), torch=False),
    Case("CumProd", ((4, 5), np.array(1)), opset=26, torch=False),
    Case("Gather", ((5, 6), _ints(3, 0, 3).reshape(3, 1)), {"axis": 1}),
    Case("Gather", ((5, 6), _ints(4, 2, 0)), {"axis": 0}),
    Case("GatherElements", ((3, 4), _ints(0, 2, 1, 1).reshape(1, 4)), torch=False),
    Case("GatherND", ((3, 4), _ints(0, 1, 2, 3).reshape(2, 2)), torch=False),
    Case("Resize", (_IMAGE, None, np.array([1, 1, 2, 2], np.float32)), {"mode": "linear"}),
    Case("Resize", (_IMAGE, None, None, _ints(2, 4, 5, 9)), {"mode": "linear"}, torch=False),
    Case("Resize", (_IMAGE, None, np.array([1, 1, 2, 2], np.float32)), {"mode": "cubic"}, torch=False),
    Case("Resize", (_IMAGE, None, np.array([1, 1, 2, 2], np.float32)), {"mode": "nearest"}, torch=False),
    Case("Resize", (_IMAGE, None, np.array([1, 1, 0.6, 1.7], np.float32)), {"mode": "nearest"}, torch=False),
    Case("ReduceSum", ((2, 3),), {"noop_with_empty_axes": 1}),
    Case("Swish", ((3, 4),), opset=24, torch=False),
]  # fmt: skip
"""Every operator that is expressed and has a derivative, in its forms."""

TIES = [case for case in CASES if case.ties]
SMOOTH = [case for case in CASES if not case.ties]

WITHOUT = {
    **dict.fromkeys(
        ("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "And", "Or", "Xor", "Not"), "of integers"
    ),
    **dict.fromkeys(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN", "IsInf"), "a truth value"),
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "Hardmax", "EyeLike", "OneHot", "Range", "ConstantOfShape"), "piecewise constant"
    ),
    **dict.fromkeys(
        ("QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"),
        "of integers",
    ),
    **dict.fromkeys(("Cast", "CastLike"), "between float types only, in test_reverse"),
    "Celu": "f32 only; its expression is that of Elu",
    "Upsample": "the same function as Resize",
}
"""Operators that are expressed and are not among the cases, and why."""
