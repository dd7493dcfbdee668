"""tensoropt against a reference on one example model: compile both, check that they agree, time them in turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

import tensoropt
from examples.alternation import Series, alternate
from examples.models import BUILDERS, FORMULATIONS
from examples.models.weights import Array
from examples.scaling import cores

Feeds = dict[str, Array]
Run = Callable[[Feeds], dict[str, Array]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against a reference on one model: milliseconds a call, medians over the blocks."""

    name: str
    reference: str
    ours: Series
    theirs: Series
    again: Series
    """Ours a second time, in turn with the others."""
    error: float
    """Largest difference of the outputs, as a share of the reference's largest value."""
    compile_seconds: float
    cores: float
    """Whole cores that the machine gave, the mean of before and after; see `scaling`."""

    @property
    def ratio(self) -> float:
        """Ours through theirs: below 1 is faster."""
        return self.ours.median / self.theirs.median

    @property
    def control(self) -> float:
        """Ours through ours."""
        return self.ours.median / self.again.median


def against_onnxruntime(name: str, threads: int, blocks: int) -> Comparison:
    """Compare on one model with ONNX Runtime, which runs the faster of the model's formulations."""
    model = BUILDERS[name](1)
    ours, seconds = compiled(model, threads, rewriting=True)
    feeds = random_feeds(model)
    reference, theirs = fastest_peer(name, model, feeds, threads)
    return _compare(name, reference, ours, theirs, feeds, blocks, seconds, threads)


def against_unoptimized(name: str, threads: int, blocks: int) -> Comparison:
    """Compare on one model with tensoropt without rewriting: the same kernels."""
    model = BUILDERS[name](1)
    ours, seconds = compiled(model, threads, rewriting=True)
    plain, _ = compiled(model, threads, rewriting=False)
    return _compare(name, "without rewriting", ours, plain, random_feeds(model), blocks, seconds, threads)


def _compare(
    name: str, reference: str, ours: Run, theirs: Run, feeds: Feeds, blocks: int, seconds: float, threads: int
) -> Comparison:
    error = difference(ours(feeds), theirs(feeds))
    functions = {"ours": lambda: ours(feeds), "theirs": lambda: theirs(feeds), "again": lambda: ours(feeds)}
    before = cores(threads)
    series = alternate(functions, blocks)
    given = (before + cores(threads)) / 2
    return Comparison(name, reference, **series, error=error, compile_seconds=seconds, cores=given)


def compiled(model: onnx.ModelProto, threads: int, *, rewriting: bool) -> tuple[Run, float]:
    """Optimize and check the model, save it, load it as a user would; return its `run` and the seconds of the former."""
    start = time.monotonic()
    optimized = optimize(model, threads, () if rewriting else ("all",))
    seconds = time.monotonic() - start
    return loaded(optimized, threads), seconds


def optimize(model: onnx.ModelProto, threads: int, excluded: Iterable[str] = ()) -> tensoropt.CompiledModel:
    """Optimize and check the model without the excluded rules; without all, it stays in the algebra that it is written in."""
    return tensoropt.optimize(model, tune="off", threads=threads, exclude_rules=excluded)


def loaded(optimized: tensoropt.CompiledModel, threads: int) -> Run:
    """Save the model, load it as a user would, and return its `run`."""
    with tempfile.TemporaryDirectory(prefix="tensoropt-benchmark-") as folder:
        # The weights stay mapped and the library stays open when their files are gone.
        run: Run = tensoropt.load(optimized.save(Path(folder) / "artefact"), threads=threads).run
    return run


def fastest_peer(name: str, model: onnx.ModelProto, feeds: Feeds, threads: int) -> tuple[str, Run]:
    """ONNX Runtime on the fastest of the formulations of a model, with the name of that formulation."""
    builders = family(name)
    if len(builders) == 1:
        return "", onnxruntime(model, threads)
    peers = {other: onnxruntime(BUILDERS[other](1), threads) for other in builders}
    series = alternate({other: lambda run=run: run(feeds) for other, run in peers.items()}, 5)  # type: ignore[misc]
    best = min(series, key=lambda other: series[other].median)
    return best, peers[best]


def family(name: str) -> tuple[str, ...]:
    """All formulations of the model `name`, itself among them."""
    for model, others in FORMULATIONS.items():
        if name == model or name in others:
            return (model, *others)
    return (name,)


def onnxruntime(model: onnx.ModelProto, threads: int) -> Run:
    """A session on the CPU with all optimizations and the default of spinning, as a function of the inputs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


def random_feeds(model: onnx.ModelProto) -> Feeds:
    """Standard normal inputs from seed 0."""
    random = np.random.RandomState(0)
    return {
        value.name: random.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in model.graph.input
    }


def difference(results: dict[str, Array], references: dict[str, Array]) -> float:
    """The largest difference of any output, as a share of that output's largest value."""
    return max(float(np.abs(results[name] - value).max() / np.abs(value).max()) for name, value in references.items())
