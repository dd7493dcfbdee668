"""Programs of plans compute what the program did, in an arena as the plan lays it out, whatever is computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from passes.plan.layout import buffers_of, plan_of
from passes.plan.of_program import problem_of
from passes.plan.packer import pack
from passes.plan.realise import Realised, in_arena, realised
from passes.plan.storage import Storage, storage_of
from passes.plan.trace import trace
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate, run_program
from tensoropt.ir.program import Array, Compute, Opaque, Program, Statement
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.ir.verifier import verify
from tensoropt.plan_types import Problem
from tests.passes.plan.problems import may_be_run

FLAT = TensorType(DataType.FLOAT32, (Extent(6),))
LONG = TensorType(DataType.FLOAT32, (Extent(12),))
SQUARE = TensorType(DataType.FLOAT32, (Extent(2), Extent(3)))


class Workspaces:
    """A cost model: a nanosecond a kernel, and the scratch memory that the test has drawn."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        return KernelCost(1e-9, self.sizes.get(kernel.outputs[0].name, 0))

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        raise AssertionError("nothing is compared")


def applied(name: str, operation: str, *sources: Tensor) -> Compute:
    """A statement over tensors of one shape."""
    iterators = [Iterator(f"i{axis}", extent) for axis, extent in enumerate(sources[0].shape)]
    body = Apply(operation, *(Access(source, [Index.of(one) for one in iterators]) for source in sources))
    scope = Scope(iterators, body)
    return Compute(Tensor(name, scope.type), scope)


def reshaped(name: str, source: Tensor) -> Compute:
    """The other of the two shapes: a view, unless it is an output."""
    if source.type == FLAT:
        i, j = Iterator("i", 2), Iterator("j", 3)
        scope = Scope([i, j], Access(source, [Index.of(i) * 3 + Index.of(j)]))
    else:
        k = Iterator("k", 6)
        scope = Scope([k], Access(source, [Index.of(k) // 3, Index.of(k) % 3]))
    return Compute(Tensor(name, scope.type), scope)


def concatenated(name: str, first: Tensor, second: Tensor) -> Compute:
    k = Iterator("k", 12)
    tail = Access(second, [Index.of(k) - 6])
    before = Apply("lt", IndexValue(Index.of(k)), Constant(6, DataType.INT64))
    return Compute(Tensor(name, LONG), Scope([k], Apply("where", before, Access(first, [k]), tail)))


def sliced(name: str, source: Tensor, start: int) -> Compute:
    k = Iterator("k", 6)
    return Compute(Tensor(name, FLAT), Scope([k], Access(source, [Index.of(k) + start])))


@dataclass(frozen=True)
class Planned:
    program: Program
    storage: Storage
    problem: Problem
    sequence: tuple[int, ...]


@st.composite
def planned(draw: st.DrawFn) -> Planned:
    """A program with views, slices and concatenations, its problem, and a sequence that computes some statements again."""
    known = [Tensor("x", FLAT), Tensor("c", SQUARE)]
    statements: list[Statement] = []
    for number in range(draw(st.integers(1, 10))):
        source = draw(st.sampled_from(known))
        flat = [tensor for tensor in known if tensor.type == FLAT and tensor != source]
        kind = draw(st.sampled_from(["neg", "add", "mul", "view", "concat", "concat"]))
        if source.type == LONG and kind in ("view", "concat"):
            statements.append(sliced(f"v{number}", source, draw(st.integers(0, 6))))
        elif kind == "concat" and source.type == FLAT and flat:
            statements.append(concatenated(f"v{number}", source, draw(st.sampled_from(flat))))
        elif kind in ("view", "concat"):
            statements.append(reshaped(f"v{number}", source))
        elif kind == "neg":
            statements.append(applied(f"v{number}", kind, source))
        else:
            other = draw(st.sampled_from([tensor for tensor in known if tensor.type == source.type]))
            statements.append(applied(f"v{number}", kind, source, other))
        known += statements[-1].outputs
    outputs = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    constant = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    program = Program("drawn", (known[0],), tuple(outputs), {"c": constant}, tuple(statements))
    wholes = sorted(set(storage_of(program, ()).parts.values()))
    storage = storage_of(program, draw(st.sets(st.sampled_from(wholes))) if wholes else ())
    sizes = {tensor.name: draw(st.sampled_from([0, 0, 8, 100])) for tensor in known}
    problem = in_arena(problem_of(program, Workspaces(sizes), storage))
    sequence = list(range(len(problem.steps)))
    for _ in range(draw(st.integers(0, 4))):
        step = draw(st.sampled_from(sequence)) if sequence else None
        if step is not None and problem.steps[step].recomputable:
            sequence.insert(draw(st.integers(sequence.index(step) + 1, len(sequence))), step)
    if not storage.parts and draw(st.booleans()):
        problem = replace(problem, transfers=(1,) * len(problem.steps))
        for step in draw(st.sets(st.sampled_from(sequence))) if sequence else ():
            place = draw(st.integers(sequence.index(step) + 1, len(sequence)))
            sequence.insert(place, step + len(problem.steps))
    assert may_be_run(problem, sequence)
    return Planned(program, storage, problem, tuple(sequence))


def made(program: Program, problem: Problem, sequence: tuple[int, ...], storage: Storage | None = None) -> Realised:
    traced = trace(problem, sequence)
    allocation, names = buffers_of(traced)
    return realised(program, problem, plan_of(traced, pack(allocation), names), storage or storage_of(program))


def run_in_arena(made: Realised, feeds: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
    """Statement by statement, every value where the placement says; scratch memory is overwritten before a statement reads."""
    arena = np.full(made.placement.arena_bytes + made.placement.host_bytes + 64, 0xA5, np.uint8)
    callers: dict[str, Array] = {**made.program.constants, **feeds}
    outputs = {tensor.name for tensor in made.program.outputs}

    def stored(tensor: Tensor) -> Array:
        name = made.placement.storage(tensor.name)
        shape = tuple(int(extent) for extent in tensor.shape)
        if name in callers:
            first = made.placement.start(tensor.name) // 4
            return callers[name].reshape(-1)[first : first + tensor.type.elements].reshape(shape)
        start = made.placement.offsets[name] + made.placement.start(tensor.name)
        assert start + tensor.type.bytes <= len(arena)
        return arena[start : start + tensor.type.bytes].view(tensor.dtype.numpy).reshape(shape)

    for statement in made.program.statements:
        assert isinstance(statement, Compute)
        name = statement.output.name
        if name in made.placement.idle:
            continue
        if name in made.placement.workspaces:
            start = made.placement.workspaces[name]
            assert start + sizes[name] <= len(arena)
            arena[start : start + sizes[name]] = 0x5A
        result = evaluate(statement.expression, {tensor.name: stored(tensor) for tensor in statement.inputs})
        if name in outputs:
            callers[name] = result
        else:
            stored(statement.output)[...] = result
    return {name: callers[name] if name in callers else np.array([]) for name in outputs}


@given(planned())
def test_plans_compute_what_the_program_does(case: Planned) -> None:
    program, problem, sequence = case.program, case.problem, case.sequence
    result = made(program, problem, sequence, case.storage)
    verify(result.program)
    run = [
        result.originals[statement.outputs[0].name]
        for statement in result.program.statements
        if statement.outputs[0].name not in result.placement.idle and statement.outputs[0].name in result.originals
    ]
    outputs = {tensor.name for tensor in program.outputs}
    count = len(problem.steps)
    assert run == [
        problem.steps[problem.step_of(action)].name
        for action in sequence
        if action < count or problem.steps[problem.step_of(action)].name not in outputs
    ]
    sizes = {
        name: problem.steps[[step.name for step in problem.steps].index(original)].workspace
        for name, original in result.originals.items()
        if name in result.placement.workspaces
    }
    feeds = {"x": np.linspace(-1, 2, 6).astype(np.float32)}
    expected = run_program(program, feeds)
    found = run_in_arena(result, feeds, sizes)
    for tensor in program.outputs:
        np.testing.assert_array_equal(found[tensor.name], expected[tensor.name])


def test_an_opaque_statement_reads_and_writes_what_stands_for_its_values() -> None:
    x, h, s, y = (Tensor(name, FLAT) for name in "xhsy")
    node = helper.make_node("Cumsum", ["h"], ["s"]).SerializeToString()
    opaque = Opaque((s,), (h,), "Cumsum", "", 17, node)
    program = Program("opaque", (x,), (y,), {}, (applied("h", "neg", x), opaque, applied("y", "add", h, s)))
    problem = in_arena(problem_of(program, Workspaces({}), storage_of(program)))
    statements = made(program, problem, (0, 1, 0, 1, 2)).program.statements
    assert [statement.outputs[0].name for statement in statements] == ["h", "s", "h#2", "s#2", "y"]
    again = statements[3]
    assert isinstance(again, Opaque)
    assert [tensor.name for tensor in (*again.inputs, *again.outputs)] == ["h#2", "s#2"]
    assert list(onnx.NodeProto.FromString(again.node).input) == ["h#2"]
    assert list(onnx.NodeProto.FromString(again.node).output) == ["s#2"]
    assert {tensor.name for tensor in statements[4].inputs} == {"h#2", "s#2"}


def test_outputs_take_nothing_in_the_arena_and_are_written_once() -> None:
    x, h, y = (Tensor(name, FLAT) for name in "xhy")
    program = Program("output", (x,), (h, y), {}, (applied("h", "neg", x), applied("y", "add", h, x)))
    problem = in_arena(problem_of(program, Workspaces({}), storage_of(program)))
    assert [value.bytes for value in problem.values] == [0, 0]
    assert [step.recomputable for step in problem.steps] == [False, False]
    with pytest.raises(ValueError, match="writes the output h twice"):
        made(program, problem, (0, 1, 0))


def test_what_is_fetched_is_copied_to_the_host_once_and_back_each_time() -> None:
    x, h, y = (Tensor(name, FLAT) for name in "xhy")
    program = Program("paged", (x,), (y,), {}, (applied("h", "neg", x), applied("y", "add", h, x)))
    problem = in_arena(problem_of(program, Workspaces({}), storage_of(program)))
    paging = Problem(problem.name, problem.values, problem.steps, transfers=(1, 1))
    result = made(program, paging, (0, 2, 2, 1))
    names = [statement.outputs[0].name for statement in result.program.statements]
    assert names == ["h", "h@host", "h#2", "h#3", "y"]
    assert result.placement.host_bytes >= FLAT.bytes
    assert result.placement.offsets["h@host"] >= result.placement.arena_bytes
    assert not result.placement.aliases  # a copy is no view


def test_a_part_of_a_whole_is_not_fetched() -> None:
    x, h, k = (Tensor(name, FLAT) for name in "xhk")
    parts = [applied("h", "neg", x), applied("k", "exp", x), concatenated("w", h, k)]
    y = Compute(Tensor("y", LONG), applied("y", "neg", Tensor("w", LONG)).expression)
    program = Program("joined", (x,), (y.output,), {}, (*parts, y))
    storage = storage_of(program, ())
    problem = in_arena(problem_of(program, Workspaces({}), storage))
    paging = replace(problem, transfers=(1,) * len(problem.steps))
    with pytest.raises(ValueError, match="h is part of a whole"):
        made(program, paging, (0, 1, 3, 2), storage)


def test_one_statement_may_write_two_parts_of_a_whole() -> None:
    x, h, k = (Tensor(name, FLAT) for name in "xhk")
    node = helper.make_node("Pair", ["x"], ["h", "k"]).SerializeToString()
    whole = concatenated("w", h, k)
    y = Compute(Tensor("y", LONG), applied("y", "neg", whole.output).expression)
    program = Program("two", (x,), (y.output,), {}, (Opaque((h, k), (x,), "Pair", "", 17, node), whole, y))
    storage = storage_of(program, ())
    problem = in_arena(problem_of(program, Workspaces({}), storage))
    assert [value.name for value in problem.values] == ["w", "k", "y"]
    result = made(program, problem, (0, 1), storage)
    assert [statement.outputs[0].name for statement in result.program.statements] == ["h", "w", "y"]
    assert result.placement.offsets["k"] == result.placement.offsets["h"] + FLAT.bytes
