"""How exact gradients are: `python -m examples.gradients [--batch 2] [NAME ...]`.

The gradients of a model with the output `loss`, as compiled here in f32 (`--tune off`) and as PyTorch computes them in f32, against
PyTorch's in f64: for each weight the largest difference as a share of the largest element (or of a millionth of the largest of all
weights, where a gradient is zero but for rounding), and of these the median and the largest over all weights. The third pair is
PyTorch in f32 with every input and weight changed by at most one unit in the last place.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

import tensoropt
from examples.models import TRAINED
from examples.runs import command_of
from examples.tables import line
from tensoropt.check import last_bits_changed, random_feeds
from tensoropt.ir.program import Array
from tensoropt.machine import describe


def of_torch(model: onnx.ModelProto, feeds: Mapping[str, Array], double: bool) -> dict[str, Array]:
    """PyTorch's gradients by the weights among the feeds."""
    import torch

    from tensoropt.peers.torch_graph import TorchGraph

    graph = TorchGraph(model)
    weights = {}
    for name, place in graph.places.items():
        if name in feeds:
            setattr(graph, place, torch.tensor(feeds[name]))
    graph = graph.double() if double else graph
    for name, place in graph.places.items():
        if name in feeds:
            weights[name] = getattr(graph, place).requires_grad_()
    inputs = [torch.tensor(feeds[name]) for name in graph.inputs]
    outputs = graph(*(value.double() if double and value.is_floating_point() else value for value in inputs))
    loss = outputs[graph.outputs.index("loss")]
    found = torch.autograd.grad(loss, list(weights.values()))
    return {name: value.numpy() for name, value in zip(weights, found, strict=True)}


def shares(found: Mapping[str, Array], exact: Mapping[str, Array]) -> tuple[float, float]:
    """The median and the largest of the weights' differences."""
    sizes = {name: float(np.abs(gradient).max()) for name, gradient in exact.items()}
    least = 1e-6 * max(sizes.values())
    gaps = [float(np.abs(found[name] - exact[name]).max()) / max(sizes[name], least) for name in exact]
    return float(np.median(gaps)), max(gaps)


def compared(name: str, batch: int) -> list[tuple[float, float]]:
    """The shares of ours, of PyTorch in f32, and of PyTorch in f32 on inputs that differ in their last bits."""
    model = TRAINED[name](batch)
    step = tensoropt.optimize(model, training="loss", tune="off", check=False)
    feeds = {**random_feeds(step.imported.program.inputs, 0), **step.imported.values}
    results: dict[str, Any] = step.run(feeds)
    exact = of_torch(model, feeds, True)
    ours = {weight: results[f"{weight}.grad"] for weight in exact}
    theirs = of_torch(model, feeds, False)
    return [shares(found, exact) for found in (ours, theirs, of_torch(model, last_bits_changed(feeds, 0), False))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m examples.gradients", description=__doc__.split(":")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default {' '.join(TRAINED)}")
    parser.add_argument("--batch", type=int, default=2, metavar="N")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in TRAINED]
    if unknown:
        parser.error(f"there is no model {unknown[0]} with a loss; there are {', '.join(TRAINED)}")
    print("; ".join(f"{key} {entry}" for key, entry in describe().items()))
    print(f"\n    {command_of('examples.gradients', arguments)}\n", flush=True)
    titles = [f"{who}, {what}" for who in ("ours", "torch", "torch, last bits") for what in ("median", "largest")]
    print(line(["model", *titles]))
    print(line(["---", *["---:"] * len(titles)]), flush=True)
    for name in options.names or TRAINED:
        cells = [f"{share:.1e}" for pair in compared(name, options.batch) for share in pair]
        print(line([name, *cells]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
