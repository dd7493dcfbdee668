"""CUDA sources run by a C++ compiler's code in the place of nvcc's: every operation, random kernels, and whole programs through the
runtime, compared with the interpreter. Rounding is that of the host's functions, with and without contraction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from codegen.cuda.runtime import CudaModel, Image
from codegen.cuda.source import cuda_source
from codegen.device.build import link, lowered
from codegen.device.code import DeviceCode
from codegen.device.table import Start
from codegen.lower.device import lower
from codegen.signature import Signature
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written, plan
from passes.plan.lifetimes import joined_storage
from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Scope, Tensor, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate, run_program
from tensoropt.ir.program import Array, Compute, Program
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.pass_manager import Context
from tests.codegen.lower.test_operations import CASES, ULPS, operands
from tests.strategies.attention import Sizes, attention, values_of
from tests.strategies.cuda_on_host import available, compiled, kernels_of
from tests.strategies.expressions import closed_scopes
from tests.strategies.fake_driver import FakeDriver
from tests.strategies.programs import integer_range
from tests.strategies.small_models import feeds_of, model, program_of

pytestmark = pytest.mark.skipif(not available(), reason="needs a C++ compiler with barriers and 16-bit floats")
TARGET = NAMED["h200"]


class HostCode:
    """`codegen.device.code.DeviceCode` of CUDA sources on the host."""

    def __init__(self, source: str, folder: Path, contracted: bool) -> None:
        self.library = compiled(source, folder, contracted)

    def model(self, starts: list[Start], signature: Signature, weights: Array) -> CudaModel:
        kernels = dict(kernels_of(self.library, starts))
        driver = FakeDriver(kernels, memory_bytes=1 << 28)
        return CudaModel(driver, [Image(b"\x7fELF", "sm_90", dict.fromkeys(kernels, 0))], starts, signature, weights)


def run_on_host(
    program: Program,
    feeds: dict[str, Array],
    folder: Path,
    contracted: bool,
    target: GpuTarget = TARGET,
    variants: Mapping[str, Any] | None = None,
) -> dict[str, Array]:
    """The outputs of a program of kernels, compiled for CUDA and run through the CUDA runtime."""
    storage = joined_storage(program)
    steps = lowered(program, storage.idle, target, variants=variants, strides=storage.strides, start=storage.start)
    made: list[HostCode] = []

    def code(functions: dict[str, object], _: object, starts: object) -> DeviceCode:
        made.append(HostCode(cuda_source(functions, target), folder, contracted))
        return made[-1]  # type: ignore[return-value]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("codegen.device.build.compiled_code", code)
        built = link(program, plan(program, {}, storage, target.alignment), target, steps)
    loaded = built.model()
    first = loaded.run(feeds)
    again = loaded.run(feeds)  # from the graph
    for name, value in first.items():
        assert again[name].tobytes() == value.tobytes()
    return first


def of_scope(scope: Scope) -> Program:
    """A program of one kernel."""
    output = Tensor("y", scope.type)
    return Program("p", tuple(tensors(scope)), (output,), {}, (Compute(output, scope),))


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("contracted", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_operation_on_every_type(tmp_path: Path, contracted: bool, part: int) -> None:
    statements: list[Compute] = []
    inputs: dict[Tensor, None] = {}
    values: dict[str, Array] = {}
    expected: dict[str, Array] = {}
    cases = CASES[part::3]
    for number, (name, dtype) in enumerate(cases):
        arrays = operands(dtype, OPERATIONS[name].arity - (name == "where"))
        if name == "div" and dtype.value.startswith("i"):
            least = integer_range(dtype)[0]
            arrays = [array[(arrays[0] != least) & (arrays[1] != least)] for array in arrays]
        i = Iterator("i", len(arrays[0]))
        sources = [Tensor(f"x{number}_{place}", TensorType(dtype, (Extent(i.extent),))) for place in range(len(arrays))]
        reads = [Access(source, [i]) for source in sources]
        even = Apply("eq", IndexValue(Index.of(i) % 2), Constant(0, DataType.INT64))
        scope = Scope([i], Apply("where", even, *reads) if name == "where" else Apply(name, *reads))
        statements.append(Compute(Tensor(f"y{number}", scope.type), scope))
        inputs |= dict.fromkeys(sources)
        values |= {source.name: array for source, array in zip(sources, arrays, strict=True)}
        with np.errstate(all="ignore"):
            expected[f"y{number}"] = evaluate(scope, values)
    outputs = tuple(statement.output for statement in statements)
    found = run_on_host(Program("p", tuple(inputs), outputs, {}, tuple(statements)), values, tmp_path, contracted)
    for number, (name, dtype) in enumerate(cases):
        actual, wanted = found[f"y{number}"], expected[f"y{number}"]
        if dtype.is_float and wanted.dtype == dtype.numpy:
            tolerance = ULPS[dtype] * (1 if name not in ("pow", "tan", "sinh", "cosh") else 8)
            tiny = float(np.finfo(np.float32).tiny) if dtype is not DataType.FLOAT64 else 0.0
            np.testing.assert_allclose(
                actual.astype(np.float64), wanted.astype(np.float64), rtol=tolerance, atol=max(tiny, 2e-7 * tolerance),
                err_msg=f"{name} {dtype.value}",
            )  # fmt: skip
        else:
            np.testing.assert_array_equal(actual, wanted, err_msg=f"{name} {dtype.value}")


def test_every_conversion(tmp_path: Path) -> None:
    statements, inputs, values, expected = [], [], {}, {}
    for source in DataType:
        (array,) = operands(source, 1)
        if source.is_float:
            array = np.where(np.abs(array.astype(np.float64)) < 120, array, np.zeros((), array.dtype)).astype(
                array.dtype
            )
        i = Iterator("i", len(array))
        tensor = Tensor(f"x_{source.value}", TensorType(source, (Extent(len(array)),)))
        inputs.append(tensor)
        values[tensor.name] = array
        for target in DataType:
            if source is target or (source.is_float and target.value.startswith("u")):
                continue  # a view; a negative float as an unsigned integer is undefined in C++
            scope = Scope([i], Cast(Access(tensor, [i]), target))
            output = Tensor(f"{source.value}_to_{target.value}", scope.type)
            statements.append(Compute(output, scope))
            with np.errstate(all="ignore"):
                expected[output.name] = evaluate(scope, values)
    outputs = tuple(statement.output for statement in statements)
    found = run_on_host(Program("p", tuple(inputs), outputs, {}, tuple(statements)), values, tmp_path, False)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(closed_scopes(), min_size=6, max_size=6))
def test_random_kernels(tmp_path_factory: pytest.TempPathFactory, found: list[Scope]) -> None:
    statements = tuple(Compute(Tensor(f"y{number}", scope.type), scope) for number, scope in enumerate(found))
    inputs = tuple(dict.fromkeys(tensor for scope in found for tensor in tensors(scope)))
    program = Program("p", inputs, tuple(statement.output for statement in statements), {}, statements)
    values = {
        tensor.name: np.random.default_rng(len(tensor.name))
        .integers(-3, 4, tuple(map(int, tensor.shape)))
        .astype(np.float32)
        for tensor in inputs
    }
    actual = run_on_host(program, values, tmp_path_factory.mktemp("kernels"), True)
    for statement in statements:
        expected = evaluate(statement.expression, values)
        np.testing.assert_allclose(actual[statement.output.name], expected, rtol=2e-6, atol=1e-6)


SMALL = replace(TARGET, multiprocessors=1)
"""On which a few elements fill the GPU, so that threads have several of them."""


@pytest.mark.parametrize("columns", [2048, 2049, 2050, 2052, 2056])
def test_what_is_read_and_written_at_once(tmp_path: Path, columns: int) -> None:
    """In every type, in parts of a whole that begin anywhere, and with guards."""
    statements: list[Compute] = []
    inputs = [Tensor(f"x_{dtype.value}", TensorType(dtype, (Extent(2), Extent(columns)))) for dtype in DataType]
    i, p, j = Iterator("i", 2), Iterator("p", 6), Iterator("j", columns)
    for x in inputs:
        parts = [Tensor(f"{x.name}_{number}", x.type) for number in range(3)]
        reads = [Access(x, [i, j]), Access(x, [1 - Index.of(i), j]), Access(x, [Index.of(i) + 1, j], 1)]
        statements += [
            Compute(part, Scope([i, j], Apply("max", reads[0], one))) for part, one in zip(parts, reads, strict=True)
        ]
        beside = [Access(part, [Index.of(p) - 2 * number, j], 0) for number, part in enumerate(parts)]
        first, second = (Apply("lt", IndexValue(Index.of(p)), Constant(end, DataType.INT64)) for end in (2, 4))
        whole = Apply("where", first, beside[0], Apply("where", second, beside[1], beside[2]))
        statements.append(
            Compute(Tensor(f"y_{x.name}", TensorType(x.dtype, (Extent(6), Extent(columns)))), Scope([p, j], whole))
        )
    outputs = tuple(one.output for one in statements if one.output.name.startswith("y"))
    program = Program("p", tuple(inputs), outputs, {}, tuple(statements))
    numbers = np.random.default_rng(0).integers(0, 100, (2, columns))
    values = {x.name: (numbers % 2 if x.dtype is DataType.BOOL else numbers).astype(x.dtype.numpy) for x in inputs}
    found, expected = run_on_host(program, values, tmp_path, False, SMALL), run_program(program, values)
    for output in outputs:
        np.testing.assert_array_equal(found[output.name], expected[output.name], err_msg=output.name)
    at_once = set(re.findall(r"^  +(?:load|store)_(\d+)\(", (tmp_path / "kernels.cpp").read_text(), re.MULTILINE))
    assert at_once == {str(count) for count in (2, 4, 8, 16) if 2 * columns % count == 0}


@pytest.mark.parametrize("dtype", [DataType.FLOAT32, DataType.FLOAT16])
@pytest.mark.parametrize("contracted", [False, True])
def test_attention_in_one_launch(tmp_path: Path, dtype: DataType, contracted: bool) -> None:
    scope = attention(Sizes(2, 37, 83, 9, 20), dtype, True, True)
    assert lower(Tensor("y", scope.type), scope, TARGET).schedules[0].startswith("attention")
    values = values_of(scope, 0)
    with np.errstate(all="ignore"):
        expected = evaluate(scope, values).astype(np.float32)
    actual = run_on_host(of_scope(scope), values, tmp_path, contracted)["y"].astype(np.float32)
    tolerance = 1e-5 if dtype is DataType.FLOAT32 else 1e-2
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


MODELS = {
    "convolutions": (
        "a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, w) b = Relu (a) "
        "c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (b, d) e = MaxPool <kernel_shape = [2, 2]> (c) "
        "g = GlobalAveragePool (e) f = Flatten (g) y = Gemm (f, m)",
        "float[2, 3, 13, 11] x", "float[2, 5] y", {"w": (8, 3, 3, 3), "d": (8, 1, 3, 3), "m": (8, 5)},
    ),
    "attention": (
        "q = MatMul (x, w) k = MatMul (x, v) t = Transpose <perm = [0, 2, 1]> (k) s = MatMul (q, t) p = Softmax <axis = 2> (s) "
        "o = MatMul (p, x) y = LayerNormalization <axis = 2> (o, g)",
        "float[2, 37, 24] x", "float[2, 37, 24] y", {"w": (24, 24), "v": (24, 24), "g": (24,)},
    ),
    "parts": (
        "a = Relu (x) b = Neg (x) c = Concat <axis = 1> (a, b) d = Transpose <perm = [1, 0]> (c) y = Exp (d)",
        "float[5, 300] x", "float[600, 5] y", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("contracted", [False, True])
def test_programs(tmp_path: Path, name: str, contracted: bool) -> None:
    body, inputs, outputs, weights = MODELS[name]
    imported = program_of(model(body, inputs, outputs, **weights))
    program = compile_as_written(imported, Context(EstimatedCosts()))
    feeds = feeds_of(imported)
    actual, expected = run_on_host(program, feeds, tmp_path, contracted), run_program(imported, feeds)
    for output in imported.outputs:
        np.testing.assert_allclose(actual[output.name], expected[output.name], rtol=2e-5, atol=2e-5)
