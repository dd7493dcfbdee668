"""ONNX's own single-node tests of the operators that tensor algebra expresses.

Each case is tried as it is, and where that leaves an opaque statement or an unknown shape, with all inputs but the first
as constants, as models have them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tensoropt.errors import ModelError
from tensoropt.frontend import load_program
from tensoropt.frontend.lift.table import LIFTS
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Opaque
from tensoropt.ir.types import DataType

Array = np.ndarray[Any, Any]

MISSING_TYPES = ("unsupported element type", "is not a tensor")
DIFFERENT = {
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime divides by the rounded size",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime divides by the rounded size",
    "test_bitshift_right_int8_shift_ge_width": "scalar operations give 0 for shifts by the width or more",
    "test_bitshift_right_int32_shift_ge_width": "scalar operations give 0 for shifts by the width or more",
}
OPAQUE = {
    "BatchNormalization": "training mode",
    "Dropout": "training mode",
    "QLinearMatMul": "scales in f16",
    "Resize": "anti-aliasing and crops",
}
"""Operators with cases that are expressed and others that are not, and why."""


def array_of(value: Any) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def outcome(model: onnx.ModelProto, feeds: Mapping[str, Array], expected: Sequence[Array]) -> str:
    """ "pass", "mismatch", "opaque" or the sentence of the error."""
    try:
        program = load_program(model).program
    except ModelError as error:
        return str(error)
    if any(isinstance(statement, Opaque) for statement in program.statements):
        return "opaque"
    values = run_program(program, feeds)
    for tensor, wanted in zip(program.outputs, expected, strict=True):
        found = values[tensor.name]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            return "mismatch"
        half = tensor.dtype in (DataType.FLOAT16, DataType.BFLOAT16)
        near = np.allclose(
            found.astype(np.float64),
            wanted.astype(np.float64),
            1e-2 if half else 1e-3,
            1e-2 if half else 1e-5,
            equal_nan=True,
        )
        if not near:
            return "mismatch"
    return "pass"


@pytest.mark.slow
def test_single_nodes() -> None:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
        results: dict[str, Counter[str]] = {}
        wrong: list[tuple[str, str]] = []
        for case in cases:
            model = case.model
            if model is None or not case.data_sets:
                continue
            nodes = model.graph.node
            if len(nodes) != 1 or (nodes[0].domain, nodes[0].op_type) not in LIFTS:
                continue
            given, wanted = case.data_sets[0]
            if any(isinstance(value, (list, dict)) or value is None for value in (*given, *wanted)):
                continue
            names = [value.name for value in model.graph.input]
            feeds = {name: array_of(value) for name, value in zip(names, given, strict=True)}
            expected = [array_of(value) for value in wanted]
            result = outcome(model, feeds, expected)
            if result not in ("pass", "mismatch") and names:
                fixed = names if nodes[0].op_type in ("ConstantOfShape", "Range") else names[1:]
                for name in fixed:
                    model.graph.initializer.append(numpy_helper.from_array(feeds[name], name))
                result = outcome(model, {name: array for name, array in feeds.items() if name not in fixed}, expected)
            if any(reason in result for reason in MISSING_TYPES):
                continue
            results.setdefault(nodes[0].op_type, Counter())["pass" if result == "pass" else "other"] += 1
            if (
                result != "pass"
                and case.name not in DIFFERENT
                and not (result != "mismatch" and nodes[0].op_type in OPAQUE)
            ):
                wrong.append((case.name, result))
    assert wrong == []
    passed = sum(found["pass"] for found in results.values())
    assert passed >= 700, f"{passed} cases of {len(results)} operators pass"
    assert all(found["pass"] for found in results.values())
