"""What MetaSchedule finds for single kernels on a device, beside the templates: `python -m examples.device_search [--trials 32]`.

The default and the templates are measured first (`tensoropt tune` does no more than these unless it is asked for more trials),
then MetaSchedule searches, and what it found is judged and timed beside the default and the best template. *dlight* is the schedule
that TVM's own rules give without a search.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence

import onnx

from codegen.lower.scheduled import found_by
from codegen.targets.parsing import Target, parse_target
from codegen.tune.kernels import ProgramKernel, distinct_kernels
from codegen.tune.metaschedule import explore
from codegen.tune.session import Measured, Session, Trial
from codegen.tune.space import DEFAULT, TEMPLATES, Variant, variants
from examples.models.graph import Graph
from examples.tables import line
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written, plan
from tensoropt.frontend import load_program
from tensoropt.pass_manager import Context

_SECONDS = 0.5
"""How long variants are timed together."""
_LIMIT = (120.0, 5.0)
"""What a search may take to start, and for each trial."""


def _product() -> onnx.ModelProto:
    graph = Graph("product", seed=1)
    left, right = graph.input("left", (256, 256)), graph.input("right", (256, 256))
    graph.output(graph.node("MatMul", left, right), "made", (256, 256))
    return graph.finish()


def _convolution() -> onnx.ModelProto:
    """The first 3 x 3 convolution of light_squeezenet's fire modules."""
    graph = Graph("convolution", seed=2)
    image, weight = graph.input("image", (1, 16, 55, 55)), graph.weight((64, 16, 3, 3), 144)
    made = graph.node("Conv", image, weight, graph.bias(64), kernel_shape=[3, 3], pads=[1] * 4)
    graph.output(graph.relu(made), "made", (1, 64, 55, 55))
    return graph.finish()


def _reduction() -> onnx.ModelProto:
    graph = Graph("reduction", seed=3)
    rows = graph.input("rows", (64, 16384))
    graph.output(graph.node("ReduceSum", rows, graph.ints(1), keepdims=0), "made", (64,))
    return graph.finish()


def _softmax() -> onnx.ModelProto:
    graph = Graph("softmax", seed=4)
    graph.output(graph.node("Softmax", graph.input("scores", (256, 1000)), axis=-1), "made", (256, 1000))
    return graph.finish()


KERNELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "product 256 x 256 x 256": _product,
    "convolution 16 to 64, 3 x 3, 55 x 55": _convolution,
    "sums of 64 rows of 16384": _reduction,
    "softmax of 256 rows of 1000": _softmax,
}


def kernel_of(model: onnx.ModelProto, target: Target) -> ProgramKernel:
    """The heaviest kernel of a model as it is written."""
    program = compile_as_written(load_program(model.SerializeToString(), {}).program, Context(EstimatedCosts()))
    return distinct_kernels(program, plan(program), target)[0]


class Comparison:
    """One kernel, measured on the device that is here."""

    def __init__(self, kernel: ProgramKernel, target: Target) -> None:
        self.kernel, self.target = kernel, target
        self.session = Session(target)

    def timed(self, tried: Sequence[Variant]) -> list[Measured]:
        """What became of the variants, which are timed in turns."""
        name, alternative = self.kernel.kernel.output.name, self.kernel.alternative()
        return self.session.measure(
            [Trial(alternative, {name: variant.parameters} if variant.parameters else {}) for variant in tried],
            _SECONDS,
        )

    def best_template(self) -> Variant:
        """The fastest of the templates that tuning would measure, the default among them."""
        listed = variants(self.kernel.kernel, self.kernel.constants, self.target, TEMPLATES, self.kernel.layout)
        best, share = DEFAULT, 1.0
        for start in range(1, len(listed), 7):
            tried = listed[start : start + 7]
            default, *others = (found.cost for found in self.timed([DEFAULT, *tried]))
            for variant, cost in zip(tried, others, strict=True):
                if cost.source == "measured" and cost.seconds < share * default.seconds:
                    best, share = variant, cost.seconds / default.seconds
        return best

    def searched(self, trials: int) -> tuple[Variant | None, list[Variant], int]:
        """dlight's schedule, the fastest three that MetaSchedule found, and how many of its candidates ran."""
        start, each = _LIMIT
        plain: Variant | None = None
        found: list[tuple[float, Variant]] = []
        for parameters, seconds in explore(self.kernel.kernel, self.target, trials, start + each * trials):
            if found_by(parameters["metaschedule"]) == "dlight":
                plain = Variant(parameters)
            else:
                found.append((seconds, Variant(parameters)))
        return plain, [variant for _, variant in sorted(found, key=lambda one: one[0])[:3]], len(found)


def row(label: str, target: Target, trials: int) -> list[str]:
    """The cells of one kernel: milliseconds of the default, the best template, dlight and the best of MetaSchedule."""
    comparison = Comparison(kernel_of(KERNELS[label](), target), target)
    template = comparison.best_template()
    started = time.monotonic()
    plain, best, ran = comparison.searched(trials)
    seconds = time.monotonic() - started
    tried = [DEFAULT, template, *([] if plain is None else [plain]), *best]
    costs = [one.cost for one in comparison.timed(tried)]
    comparison.session.worker.stop()
    times = [cost.seconds if cost.source == "measured" else float("inf") for cost in costs]
    dlight = times[2] if plain is not None else float("inf")
    searched = min(times[len(tried) - len(best) :], default=float("inf"))
    shown = [f"{1e3 * one:.3f}" if one < float("inf") else "" for one in (times[0], times[1], dlight, searched)]
    return [label, *shown, f"{ran} of {trials}", f"{seconds:.0f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table as Markdown, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="opencl")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("words", nargs="*", help="kernels whose label has one of these")
    asked = parser.parse_args(arguments)
    target = parse_target(asked.target)
    titles = ["kernel", "default ms", "best template ms", "dlight ms", "MetaSchedule ms", "ran", "search s"]
    print(line(titles), line(["---", *["---:"] * (len(titles) - 1)]), sep="\n", flush=True)
    for label in KERNELS:
        if not asked.words or any(word in label for word in asked.words):
            print(line(row(label, target, asked.trials)), flush=True)


if __name__ == "__main__":
    main()
