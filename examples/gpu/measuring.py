"""One model on the device: compiled and checked, then compared and timed against PyTorch, each in a process of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import tensoropt
from examples.gpu.machine import clocks
from examples.models import BUILDERS
from examples.runs import Row
from tensoropt.check import END_TO_END, random_feeds
from tensoropt.errors import CheckError
from tensoropt.ir.program import Array
from tensoropt.peers.peer import brief
from tensoropt.timing import alternate

BLOCKS = 5
BLOCK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Case:
    """A model at a batch size in f32 or f16, for a target, with a folder of its own for what is made of it."""

    name: str
    batch: int
    dtype: str
    target: str
    folder: Path

    @property
    def label(self) -> str:
        """As the table has it."""
        return f"{self.name}, {self.dtype}, batch {self.batch}"

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / "model.onnx"

    @property
    def artefact(self) -> Path:
        """The compiled folder."""
        return self.folder / "artefact"

    @property
    def device(self) -> str:
        """Where torch runs it."""
        return "cuda" if self.target.startswith("cuda") else "cpu"


def built(name: str, batch: int, dtype: str) -> onnx.ModelProto:
    """The model; f16 has weights, inputs and outputs of f16, by ONNX Runtime's converter."""
    model = BUILDERS[name](batch)
    if dtype == "f32":
        return model
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half: onnx.ModelProto = convert_float_to_float16(model)
    return half


def prepare(case: Case) -> Row:
    """Optimizes the model, which checks every kernel on the device against ONNX Runtime, and has torch compile it.

    What both compile is kept on disk, so that `measure` finds it.
    """
    case.folder.mkdir(parents=True)
    onnx.save(built(case.name, case.batch, case.dtype), case.model)
    started = time.monotonic()
    compiled = tensoropt.optimize(
        case.model, case.target, tune="off"
    )  # other models are compiled meanwhile: nothing is timed
    seconds = time.monotonic() - started
    compiled.save(case.artefact)
    report = compiled.report()
    row: Row = {"optimize_seconds": seconds, "check": report["check"], "rewrites": len(report["rewrites"])}
    if find_spec("torch") is not None:
        from examples.gpu.torch_runs import TorchRuns

        feeds = random_feeds(compiled.imported.program.inputs, 0)
        with contextlib.suppress(Exception):  # whatever torch raises is said when it is timed
            TorchRuns(case.model, feeds, case.device).compiled()()
    return row


def measure(case: Case, prepared: Row) -> Row:
    """The artefact, loaded as a user loads it: its outputs against ONNX Runtime's and PyTorch's in f64, and its time."""
    if "failed" in prepared:
        raise RuntimeError(str(prepared["failed"]))
    loaded = tensoropt.load(case.artefact)
    feeds = random_feeds(loaded.inputs, 0)
    outputs, expected = loaded.run(feeds), _onnxruntime(case.model, feeds)
    row: Row = {**prepared, "model": case.name, "batch": case.batch, "dtype": case.dtype, "target": case.target}
    row["difference"] = furthest(outputs, expected)
    allowed = max(END_TO_END[tensor.dtype] for tensor in loaded.outputs)
    if not row["difference"] <= allowed:
        raise CheckError(f"differs from ONNX Runtime's by {row['difference']:.2g} where {allowed:.2g} is allowed")
    peers: dict[str, Callable[[], object]] = {}
    tensors: Mapping[str, Any] = feeds
    if find_spec("torch") is not None:
        row["refused"], peers, exact, there = _torch(case, feeds)
        if exact is not None:
            row["error"], row["onnxruntime_error"] = furthest(outputs, exact), furthest(expected, exact)
        if case.device == "cuda" and there is not None:
            tensors = there
    functions = {"tensoropt": ours(loaded, tensors), **peers, "control": ours(loaded, tensors)}
    row["clocks"] = [clocks()]
    series = alternate(functions, BLOCKS, block_seconds=BLOCK_SECONDS, budget=4.0)
    row["clocks"].append(clocks())
    row["milliseconds"] = {name: one.median for name, one in series.items()}
    row["blocks"] = {name: list(one.blocks) for name, one in series.items()}
    row["copies"] = tensors is feeds
    return row


def _torch(case: Case, feeds: Mapping[str, Array]) -> tuple[dict[str, str], dict[str, Callable[[], object]], Any, Any]:
    """Why torch refuses what it does, by name; calls of the peers; the outputs in f64; the inputs where torch has them."""
    from examples.gpu.torch_runs import TorchRuns

    refused: dict[str, str] = {}
    peers: dict[str, Callable[[], object]] = {}
    try:
        runs = TorchRuns(case.model, feeds, case.device)
    except Exception as error:
        return {"torch": brief(error)}, {}, None, None
    exact = None
    try:
        exact = runs.reference()
    except Exception as error:
        refused["f64"] = brief(error)
    for name, made in (("torch", runs.eager), ("torch.compile", runs.compiled)):
        try:
            call = made()
            call()
        except Exception as error:
            refused[name] = brief(error)
        else:
            peers[name] = call
    return refused, peers, exact, runs.tensors


def furthest(outputs: Mapping[str, Array], reference: Mapping[str, Array]) -> float:
    """The largest difference of an output, as a share of its reference's largest value; NaN where one has NaN."""
    found = []
    for name, array in outputs.items():
        wide = np.asarray(reference[name], np.float64)
        scale = float(np.abs(wide).max(initial=0.0)) or 1.0
        found.append(float(np.abs(array.astype(np.float64) - wide).max(initial=0.0)) / scale)
    return float(np.max(found))


def ours(model: Any, feeds: Mapping[str, Any]) -> Callable[[], object]:
    """A call that ends when the device has: on tensors that lie there, or with copies from the host and back."""
    if any(not isinstance(value, np.ndarray) for value in feeds.values()):
        return lambda: model.run_on_device(feeds)
    return lambda: model.run(feeds)


def _onnxruntime(model: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))
