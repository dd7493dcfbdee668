"""Graphs to plan, as files: `python -m examples.planning_graphs [NAME ...] -o DIR`, for `tensoropt plan DIR/NAME.json`.

Random layered graphs of the published kind, and the steps of training a network: forward, loss, and backward, an operator each.
Weights and inputs are the caller's and no values here. The gradient of a weight has no reader and is not kept, as what nobody
reads in the published graphs: the optimizer's update takes it where it arises.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from pathlib import Path

from tensoropt.plan_types import Problem, Step, Value
from tensoropt.problem_files import as_document

OPERATIONS_PER_NANOSECOND = 10_000
BYTES_PER_NANOSECOND = 1_000
"""The machine that training steps are timed for: an accelerator of 10 TFLOP/s in single precision, with 1 TB/s of memory."""

ELEMENT = 4
"""Bytes; single precision."""

_SIZES = ((0.3, 500, 500), (0.3, 1000, 1000), (0.3, 3000, 1000), (0.1, 5000, 1000))
"""Weight, mean and deviation of the normal distributions that random sizes are mixed from."""


def random_layered(
    steps: int, seed: int, width: float = 0.3, variability: float = 0.75, density: float = 0.2, skips: float = 0.14
) -> Problem:
    """A random layered graph of so many steps, each with one value, in a random topological order.

    In the manner of Gagrani et al., *Neural Topological Ordering for Computation Graphs* (NeurIPS 2022), appendix A: √(``steps`` /
    ``width``) layers between a first and a last step, their sizes varying by ``variability`` of the mean. Steps of neighbouring
    layers are joined with probability ``density``, and so that each reads and is read; of all edges, ``skips`` pass over
    a layer. Sizes are of a mixture of normal distributions, durations uniform. ValueError for fewer than 3 steps.
    """
    if steps < 3:
        raise ValueError(f"a layered graph has at least 3 steps, not {steps}")
    draw = random.Random(seed)
    layers = _layers(steps, width, variability, draw)
    reads: dict[int, set[int]] = {step: set() for step in range(steps)}
    for place, (before, after) in enumerate(pairwise(layers)):
        joined = 1.0 if place in (0, len(layers) - 2) else density
        for reader in after:
            reads[reader].update(step for step in before if draw.random() < joined)
            reads[reader].add(draw.choice(before))
        for step in before:
            if not any(step in reads[reader] for reader in after):
                reads[draw.choice(after)].add(step)
    most = sum(len(found) for found in reads.values()) * skips / (1 - skips) if len(layers) > 4 else 0
    for _ in range(round(most)):
        start = draw.randrange(1, len(layers) - 3)
        end = draw.randrange(start + 2, len(layers) - 1)
        reads[draw.choice(layers[end])].add(draw.choice(layers[start]))
    order = _random_order(reads, draw)
    number = {step: place for place, step in enumerate(order)}
    values = tuple(Value(f"{step}", _size(draw)) for step in order)
    ends = (0, steps - 1)
    made = tuple(
        Step(
            f"{step}",
            0 if step in ends else draw.randrange(1000),
            tuple(sorted(number[read] for read in reads[step])),
            (place,),
        )
        for place, step in enumerate(order)
    )
    return Problem(f"random_layered_{steps}", values, made).check()


def _layers(steps: int, width: float, variability: float, draw: random.Random) -> list[list[int]]:
    """The steps by layer; the first and the last have one."""
    mean = max(1.0, width * sqrt(steps / width))
    layers, start = [[0]], 1
    while start < steps - 1:
        size = max(1, round(draw.uniform(1 - variability, 1 + variability) * mean))
        layers.append(list(range(start, min(start + size, steps - 1))))
        start += size
    return [*layers, [steps - 1]]


def _size(draw: random.Random) -> int:
    """Positive, a multiple of 10."""
    _, mean, deviation = draw.choices(_SIZES, [weight for weight, _, _ in _SIZES])[0]
    while True:
        size = 10 * round(draw.gauss(mean, deviation) / 10)
        if size > 0:
            return size


def _random_order(reads: dict[int, set[int]], draw: random.Random) -> list[int]:
    """A topological order; each next step is any of those that can be next."""
    missing = {step: len(found) for step, found in reads.items()}
    readers: dict[int, list[int]] = {step: [] for step in reads}
    for step, found in reads.items():
        for read in sorted(found):
            readers[read].append(step)
    ready, order = [step for step, count in missing.items() if not count], []
    while ready:
        step = ready.pop(draw.randrange(len(ready)))
        order.append(step)
        for reader in readers[step]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    return order


@dataclass
class _Recorder:
    """Steps in the order in which they are called for."""

    values: list[Value] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def step(self, name: str, reads: Sequence[int], size: int, operations: int = 0, weights: int = 0) -> int:
        """The value of a new step. Bound by arithmetic or by the bytes that it moves, those of ``weights`` included."""
        moved = size + weights + sum(self.values[value].bytes for value in reads)
        duration = max(operations // OPERATIONS_PER_NANOSECOND, moved // BYTES_PER_NANOSECOND, 1)
        self.values.append(Value(name, size))
        self.steps.append(Step(name, duration, tuple(reads), (len(self.values) - 1,)))
        return len(self.values) - 1

    def problem(self, name: str) -> Problem:
        """What was recorded."""
        return Problem(name, tuple(self.values), tuple(self.steps)).check()


@dataclass(frozen=True)
class _Layer:
    """A layer of a transformer, whose steps are recorded. ``scores`` are elements of all heads, each a sum over ``head``."""

    to: _Recorder
    name: str
    tokens: int
    width: int
    scores: int
    head: int
    between: dict[str, int] = field(default_factory=dict)
    """Values of the forward pass, by the name of what they are."""

    def forward(self, given: int) -> int:
        """The layer's result. Pre-norm: x + attention(norm(x)), and the same with two linear maps in place of attention."""
        kept = self.between
        kept["given"] = given
        kept["norm"] = self._wide("norm", given)
        joined = self._linear("queries_keys_values", kept["norm"], 1, 3)
        for part in ("queries", "keys", "values"):
            kept[part] = self._wide(part, joined)
        scores = self._scores("scores", kept["queries"], kept["keys"])
        masked = self._scored("mask", self._scored("scale", scores))
        kept["softmax"] = self._scored("softmax", masked)
        attended = self._attended("attended", kept["softmax"], kept["values"])
        kept["heads"] = self._wide("heads", attended)
        kept["middle"] = self._wide("residual", given, self._linear("projection", kept["heads"], 1, 1))
        kept["second_norm"] = self._wide("second_norm", kept["middle"])
        kept["up"] = self._linear("up", kept["second_norm"], 1, 4)
        kept["gelu"] = self._step("gelu", [kept["up"]], 4)
        return self._wide("second_residual", kept["middle"], self._linear("down", kept["gelu"], 4, 1))

    def backward(self, gradient: int) -> int:
        """The gradient of what the layer was given."""
        kept = self.between
        gelu = self._linear_gradients("down", gradient, kept["gelu"], 4, 1)
        up = self._step("gelu_gradient", [gelu, kept["up"]], 4)
        norm = self._linear_gradients("up", up, kept["second_norm"], 1, 4)
        gradient = self._wide("second_sum", gradient, self._norm_gradients("second_norm", norm, kept["middle"]))
        heads = self._linear_gradients("projection", gradient, kept["heads"], 1, 1)
        attended = self._wide("heads_gradient", heads)
        softmax = self._scores("softmax_gradient", attended, kept["values"])
        values = self._attended("values_gradient", kept["softmax"], attended)
        masked = self._scored("mask_gradient", softmax, kept["softmax"])
        scores = self._scored("scores_gradient", self._scored("scale_gradient", masked))
        queries = self._attended("queries_gradient", scores, kept["keys"])
        keys = self._attended("keys_gradient", scores, kept["queries"])
        joined = self._step("joined_gradient", [queries, keys, values], 3)
        norm = self._linear_gradients("queries_keys_values", joined, kept["norm"], 1, 3)
        return self._wide("sum", gradient, self._norm_gradients("norm", norm, kept["given"]))

    def _step(self, name: str, reads: Sequence[int], widths: int, operations: int = 0, weights: int = 0) -> int:
        """A value of ``widths`` times the width for each token."""
        size = ELEMENT * self.tokens * self.width * widths
        return self.to.step(f"{self.name}.{name}", reads, size, operations, weights)

    def _wide(self, name: str, *reads: int) -> int:
        return self._step(name, reads, 1)

    def _scored(self, name: str, *reads: int) -> int:
        """Element by element, or row by row, of scores."""
        return self.to.step(f"{self.name}.{name}", reads, ELEMENT * self.scores)

    def _scores(self, name: str, left: int, right: int) -> int:
        """The products of rows of all heads with one another."""
        return self.to.step(f"{self.name}.{name}", [left, right], ELEMENT * self.scores, 2 * self.scores * self.head)

    def _attended(self, name: str, scores: int, read: int) -> int:
        """The sums of rows by scores."""
        return self._step(name, [scores, read], 1, 2 * self.scores * self.head)

    def _linear(self, name: str, read: int, inputs: int, outputs: int) -> int:
        """A product with a weight, and a bias; ``inputs`` and ``outputs`` in widths."""
        elements = inputs * outputs * self.width**2
        product = self._step(name, [read], outputs, 2 * self.tokens * elements, ELEMENT * elements)
        return self._step(f"{name}_bias", [product], outputs)

    def _linear_gradients(self, name: str, gradient: int, read: int, inputs: int, outputs: int) -> int:
        """The gradients of bias, weight and input of a linear map, the last of which is returned."""
        elements = inputs * outputs * self.width**2
        operations = 2 * self.tokens * elements
        self.to.step(f"{self.name}.{name}_bias_gradient", [gradient], ELEMENT * outputs * self.width)
        self.to.step(f"{self.name}.{name}_weight_gradient", [gradient, read], ELEMENT * elements, operations)
        return self._step(f"{name}_input_gradient", [gradient], inputs, operations, ELEMENT * elements)

    def _norm_gradients(self, name: str, gradient: int, read: int) -> int:
        """The gradients of scale and shift, and of the input of a normalization, which is returned."""
        self.to.step(f"{self.name}.{name}_scale_gradient", [gradient, read], 2 * ELEMENT * self.width)
        return self._wide(f"{name}_input_gradient", gradient, read)


def transformer_training(
    layers: int, batch: int = 8, sequence: int = 512, width: int = 768, heads: int = 12, vocabulary: int = 8192
) -> Problem:
    """A training step of a GPT without dropout, an operator a step: 50 in each layer, 8 for embedding, loss and their gradients.

    Reshapes are views of values and no steps; heads are split and joined by copies. ValueError if the heads do not divide the
    width.
    """
    if width % heads:
        raise ValueError(f"a width of {width} does not divide into {heads} heads")
    to, tokens = _Recorder(), batch * sequence
    wide, logits = ELEMENT * tokens * width, ELEMENT * tokens * vocabulary
    table = ELEMENT * vocabulary * width
    operations = 2 * tokens * vocabulary * width
    made = [
        _Layer(to, f"layer{number}", tokens, width, batch * heads * sequence**2, width // heads)
        for number in range(layers)
    ]
    value = to.step("embedding", [], wide)
    for layer in made:
        value = layer.forward(value)
    norm = to.step("norm", [value], wide)
    found = to.step("logits", [norm], logits, operations, table)
    loss = to.step("loss", [found], ELEMENT * tokens)
    gradient = to.step("logits_gradient", [found, loss], logits)
    to.step("table_gradient", [gradient, norm], table, operations)
    gradient = to.step("norm_gradient", [gradient, value], wide, operations, table)
    for layer in reversed(made):
        gradient = layer.backward(gradient)
    to.step("embedding_gradient", [gradient], table)
    return to.problem(f"gpt_{layers}_layers")


def chain_training(layers: int, batch: int = 4096, width: int = 1024) -> Problem:
    """A chain of linear maps, each before a nonlinearity: 5 steps in each layer and one for the loss."""
    to = _Recorder()
    size, elements = ELEMENT * batch * width, width**2
    operations = 2 * batch * elements
    value, given, linear = -1, [], []
    for number in range(layers):
        given.append([] if value < 0 else [value])
        linear.append(to.step(f"linear{number}", given[-1], size, operations, ELEMENT * elements))
        value = to.step(f"tanh{number}", [linear[-1]], size)
    gradient = to.step("loss_gradient", [] if value < 0 else [value], size)
    for number in reversed(range(layers)):
        gradient = to.step(f"tanh{number}_gradient", [gradient, linear[number]], size)
        to.step(f"weight{number}_gradient", [gradient, *given[number]], ELEMENT * elements, operations)
        gradient = to.step(f"linear{number}_gradient", [gradient], size, operations, ELEMENT * elements)
    return to.problem(f"chain_{layers}_layers")


GRAPHS: dict[str, Callable[[], Problem]] = {
    "random_layered_100": lambda: random_layered(100, 0, 0.27),
    "random_layered_500": lambda: random_layered(500, 0, 0.36),
    "random_layered_1000": lambda: random_layered(1000, 0, 0.31),
    "gpt_2": lambda: transformer_training(2),
    "gpt_64": lambda: transformer_training(64),
    "chain_12": lambda: chain_training(12),
}
"""By name. The random ones have the widths of the published graphs of their sizes, and come near their edges and peaks."""


def write(name: str, folder: Path) -> Path:
    """The file of a graph in ``folder``, written whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(as_document(GRAPHS[name]()), indent=1) + "\n")
    os.replace(partial, path)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the graphs that are named, all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m examples.planning_graphs", description=__doc__.split(":")[0])
    parser.add_argument("names", nargs="*", choices=[*GRAPHS, []], metavar="NAME", help=f"of {', '.join(GRAPHS)}")
    parser.add_argument("-o", "--output", type=Path, default=Path("."), metavar="DIR", help="folder to write to")
    options = parser.parse_args(arguments)
    for name in options.names or GRAPHS:
        print(write(name, options.output))


if __name__ == "__main__":
    main()
