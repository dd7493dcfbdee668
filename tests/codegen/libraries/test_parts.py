"""Kernels of which a library computes a part: the rest is ours, in launches before and behind the call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen.libraries.operations import CUBLASLT, CUDNN, LibraryCall, Product
from codegen.lower.device import Call, DeviceKernel, lower
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written
from tensoropt.ir.expression import Access, Apply, Constant, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.types import DataType
from tensoropt.pass_manager import Context
from tests.codegen.libraries.test_convolutions import Case as Convolved
from tests.codegen.libraries.test_products import KNOWN
from tests.strategies.attention import Sizes, attention, values_of
from tests.strategies.cuda_on_host import available
from tests.strategies.fake_libraries import variant
from tests.strategies.library_runs import TARGET, built, of_scope, run
from tests.strategies.small_models import feeds_of, model, program_of

pytestmark = pytest.mark.skipif(not available(), reason="needs a C++ compiler with barriers and 16-bit floats")


def kernel_of(scope: Scope, library: str, way: int | str = 0) -> DeviceKernel:
    return lower(Tensor("y", scope.type), scope, TARGET, variant=variant(library, way))


def calls(kernel: DeviceKernel) -> list[LibraryCall]:
    return [launch.call for launch in kernel.entries if isinstance(launch, Call)]


def then(scope: Scope, operation: str) -> Scope:
    """An operation on each element of what a scope computes."""
    outer = [Iterator(f"o{axis}", int(extent)) for axis, extent in enumerate(scope.shape)]
    return Scope(outer, Apply(operation, Access(scope, outer)))


def checked(program: Program, library: str, folder: Path, way: int | str = 0, tolerance: float = 1e-5) -> None:
    """The program with every kernel by the library, where it has it, gives what the interpreter does."""
    feeds = feeds_of(program)
    variants = {statement.outputs[0].name: variant(library, way) for statement in program.statements}
    found, expected = run(built(program, variants, folder), feeds), run_program(program, feeds)
    for output in program.outputs:
        np.testing.assert_allclose(found[output.name], expected[output.name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["batch", "pixels"])
def test_what_a_product_cannot_say_is_a_launch_behind_it(name: str, tmp_path: Path) -> None:
    scope = then(KNOWN[name].scope(), "tanh")
    kernel = kernel_of(scope, CUBLASLT)
    assert [isinstance(launch, Call) for launch in kernel.entries] == [True, False]
    assert kernel.schedules[0].startswith("cuBLASLt product")
    assert kernel.workspace_bytes >= calls(kernel)[0].workspace_bytes + scope.type.bytes
    checked(of_scope(scope), CUBLASLT, tmp_path)


def test_a_bias_of_rows_is_a_launch_behind_the_product(tmp_path: Path) -> None:
    """cuBLASLt adds a vector along what follows one another in the result, and along nothing else."""
    sums = KNOWN["pixels"].scope()
    b, f, y, x = (Iterator(name, int(extent)) for name, extent in zip("bfyx", sums.shape, strict=True))
    bias = Access(Tensor("c", Scope([f], Constant(0.0, DataType.FLOAT32)).type), [f])
    scope = Scope([b, f, y, x], Apply("add", Access(sums, [b, f, y, x]), bias))
    kernel = kernel_of(scope, CUBLASLT)
    assert [isinstance(launch, Call) for launch in kernel.entries] == [True, False]
    checked(of_scope(scope), CUBLASLT, tmp_path)


def test_a_relu_without_a_bias_is_a_launch_behind_the_convolution(tmp_path: Path) -> None:
    scope = Convolved(relu=True, groups=2).scope()
    kernel = kernel_of(scope, CUDNN, "implicit_gemm")
    assert [isinstance(launch, Call) for launch in kernel.entries] == [True, False]
    checked(of_scope(scope), CUDNN, tmp_path, "implicit_gemm")


def test_of_attention_the_scores_are_a_product(tmp_path: Path) -> None:
    """The other one has the softmax among its operands."""
    scope = attention(Sizes(2, 9, 11, 4, 5), DataType.FLOAT32, False, False)
    kernel = kernel_of(scope, CUBLASLT)
    assert len(calls(kernel)) == 1
    assert isinstance(kernel.entries[0], Call)
    values = values_of(scope, 0)
    found = run(built(of_scope(scope), {"y": variant(CUBLASLT)}, tmp_path), values)["y"]
    expected = run_program(of_scope(scope), values)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_another_library_than_has_it_changes_nothing() -> None:
    scope = KNOWN["transposed"].scope()
    output = Tensor("y", scope.type)
    assert kernel_of(scope, CUDNN, "implicit_gemm").schedules == lower(output, scope, TARGET).schedules


SLICES = model(
    "p = MatMul (x, w) q, k = Split <axis = 1> (p) t = Transpose <perm = [1, 0]> (k) y = MatMul (q, t)",
    "float[6, 8] x", "float[6, 6] y", w=(8, 10),
)  # fmt: skip
PARTS = model(
    "a = MatMul (x, v) b = MatMul (x, w) y = Concat <axis = 1> (a, b)",
    "float[6, 8] x",
    "float[6, 12] y",
    v=(8, 5),
    w=(8, 7),
)
BANDS = model(
    "a = Conv <kernel_shape = [1, 1]> (x, v) b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w) "
    "y = Concat <axis = 3> (a, b)",
    "float[1, 4, 6, 4] x", "float[1, 8, 6, 8] y", v=(8, 4, 1, 1), w=(8, 4, 3, 3),
)  # fmt: skip


def compiled_as_written(text: object) -> Program:
    return compile_as_written(program_of(text), Context(EstimatedCosts()))  # type: ignore[arg-type]


def test_operands_that_begin_within_a_tensor(tmp_path: Path) -> None:
    program = compiled_as_written(SLICES)
    last = program.statements[-1]
    assert isinstance(last, Compute)
    (call,) = calls(kernel_of(last.expression, CUBLASLT))
    assert isinstance(call.operation, Product)
    assert sorted([call.operation.left.start, call.operation.right.start]) == [0, 5]
    assert sorted([call.operation.left.aligned, call.operation.right.aligned]) == [4, 16]
    checked(program, CUBLASLT, tmp_path)


@pytest.mark.parametrize(("text", "library", "way"), [(PARTS, CUBLASLT, 0), (BANDS, CUDNN, "implicit_gemm")])
def test_results_that_lie_in_a_whole(text: object, library: str, way: int | str, tmp_path: Path) -> None:
    """Parts of a concatenation, written where they belong, from addresses that are aligned as they are."""
    program = compiled_as_written(text)
    made = built(program, {name: variant(library, way) for name in ("a", "b")}, tmp_path)
    strided = [step for step in made.steps if step.kernel.strides is not None]
    assert len(strided) == 2
    assert all(calls(step.kernel) for step in strided)
    checked(program, library, tmp_path, way)
