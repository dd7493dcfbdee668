"""The kernels that the cost model learns from: those of `examples.models`, and products and convolutions of random sizes.

Every model is fused twice, as it is written and with its convolutions by products at points: so kernels of both kinds are there.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import onnx

from codegen.lower.kernel import lower
from codegen.targets.cpu import CpuTarget
from codegen.tune.kernels import ProgramKernel, program_kernel
from codegen.tune.learned.evaluation import OPERATOR
from examples.models import BUILDERS, FORMULATIONS, TRAINED
from examples.models.graph import Graph
from passes.derive.cost import EstimatedCosts
from passes.pipeline import FILTER, KERNELS, NORMALISE, compile_as_written
from tensoropt.cost import Alternative, KernelCost
from tensoropt.frontend import load_program
from tensoropt.ir.program import Compute, Program
from tensoropt.pass_manager import Context, run_passes

OF_A_MODEL = 6
"""Kernels that are taken of one model, and of one kind, at the most."""
RANDOM = 240
"""Models of one random operator."""
LONGEST = 0.03
"""Seconds: kernels that are estimated to take longer are left out, for their variants would take most of the time."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """A kernel, and the model that it is of: equal kernels of several models belong to the first."""

    model: str
    kernel: ProgramKernel


class _Filtering(EstimatedCosts):
    """Costs by which every proposal is taken: the original is the dearest."""

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        return [KernelCost(1.0 / (1 + place), source="predicted") for place in range(len(alternatives))]


def kernels(file: Path, target: CpuTarget, seed: int = 0) -> list[Learnt]:
    """The kernels that have variants, chosen at random by the seed; kept in a file, since importing the models takes minutes."""
    if file.exists():
        found: list[Learnt] = pickle.loads(file.read_bytes())
        return found
    random, seen, chosen = Random(seed), set(), []
    for name, model in _models(random):
        of_kind: dict[str, list[Learnt]] = {}
        for kernel in _kernels(model, target):
            if kernel.key in seen or kernel.estimate > LONGEST:
                continue
            seen.add(kernel.key)
            offers = lower(kernel.kernel.output, kernel.kernel.expression, target, kernel.constants).offers
            if offers and len(offers[0].cuts) > 1:
                of_kind.setdefault(offers[0].kind, []).append(Learnt(name, kernel))
        for kind in sorted(of_kind):
            chosen += random.sample(of_kind[kind], min(OF_A_MODEL, len(of_kind[kind])))
    random.shuffle(chosen)  # whatever ends collecting early leaves no kind out
    file.write_bytes(pickle.dumps(chosen))
    return chosen


def _kernels(model: onnx.ModelProto, target: CpuTarget) -> Iterator[ProgramKernel]:
    program = load_program(model.SerializeToString(), {}).program
    written = compile_as_written(program, Context(_Filtering()))
    filtered = run_passes(program, (*NORMALISE, *FILTER, *KERNELS), Context(_Filtering()))
    for made in (written, filtered):
        yield from (program_kernel(statement, made, target) for statement in _computed(made))


def _computed(program: Program) -> Iterator[Compute]:
    for statement in program.statements:
        if isinstance(statement, Compute) and statement.output.type.elements:
            yield statement


def _models(random: Random) -> Iterator[tuple[str, onnx.ModelProto]]:
    others = {*TRAINED, *(name for forms in FORMULATIONS.values() for name in forms), "longformer_gathered"}
    for number in range(RANDOM):
        yield f"{OPERATOR} {number}", _random_operator(random)
    for name, build in BUILDERS.items():
        if name not in others:  # attention over 10 000 places takes too long to import, and losses bring no new kernels
            yield name, build(1)


def _random_operator(random: Random) -> onnx.ModelProto:
    """A product of matrices, in batches or with weights, or a convolution."""
    graph = Graph("random", seed=random.randrange(1 << 16))

    def size(least: int, most: int) -> int:
        return round(float(least * (most / least) ** random.random()))

    rows, columns, depth = size(4, 700), size(16, 700), size(8, 700)
    kind = random.randrange(4)
    if kind == 0:
        left, right = graph.input("left", (rows, depth)), graph.weight((depth, columns), depth, 1.0)
        graph.output(graph.node("MatMul", left, right), "product", (rows, columns))
    elif kind == 1:
        batch = size(2, 16)
        left, right = graph.input("left", (batch, rows // 2, depth)), graph.input("right", (batch, depth, columns))
        graph.output(graph.node("MatMul", left, right), "product", (batch, rows // 2, columns))
    else:
        inputs, outputs, extent, window = size(3, 128), size(8, 128), size(7, 64), random.choice([1, 3, 3, 5])
        stride = random.choice([1, 1, 2])
        image = graph.input("image", (1, inputs, extent, extent))
        weight = graph.weight((outputs, inputs, window, window), inputs * window**2)
        made = graph.node(
            "Conv", image, weight, kernel_shape=[window] * 2, pads=[window // 2] * 4, strides=[stride] * 2
        )
        out = (extent - 1) // stride + 1
        graph.output(graph.node("Relu", made), "result", (1, outputs, out, out))
    return graph.finish()
