"""The other engines on a case, each on its fastest formulation: PyTorch, its compiler, its libraries, and plain TVM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx

from examples.comparison import limited
from examples.gpu.cases import Case
from examples.gpu.plain_tvm import RUNTIME, PlainTvm, weights_of
from tensoropt.ir.program import Array
from tensoropt.peers.peer import Refused, brief
from tensoropt.timing import alternate

PEERS = ("torch", "torch-graph", "torch.compile", "max-autotune", "tvm", "direct")
"""Operator by operator; the same in a CUDA graph; Inductor; Inductor with tuning and CUDA graphs; TVM; cuBLAS and cuDNN."""

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Contender:
    """A call that ends when the device has, what its first one gave, and what it runs."""

    call: Call
    outputs: Mapping[str, Array]
    formulation: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """Which peers take part, the timed blocks of each series, and the seconds that one may compile."""

    against: tuple[str, ...] = PEERS
    blocks: int = 7
    compile_seconds: float = 120.0


def found_peers(
    case: Case, feeds: Mapping[str, Array], device: str, setting: Setting, folder: Path
) -> tuple[dict[str, Contender], dict[str, str]]:
    """The peers that take the case, and by name why others do not. ``folder`` is that of the prepared case."""
    offers: dict[str, list[Contender]] = {}
    skipped: dict[str, str] = {}
    formulations = case.formulations()
    makers = [
        (formulation, *maker)
        for formulation, model in formulations.items()
        for maker in _torch_makers(case, model, feeds, device, setting)
    ]
    if "tvm" in setting.against:
        formulation, model = next(iter(formulations.items()))
        makers.insert(0, (formulation, "tvm", lambda: _tvm(model, feeds, device, folder)))
    for formulation, name, make in makers:
        try:
            found = make()
        except Exception as error:  # whatever an engine raises is said in the row
            skipped.setdefault(name, str(error) if isinstance(error, Refused) else brief(error))
        else:
            offers.setdefault(name, []).append(Contender(found[0], found[1], formulation))
    chosen = {name: _fastest(several) for name, several in offers.items()}
    return chosen, {name: reason for name, reason in skipped.items() if name not in chosen}


def reference(case: Case, feeds: Mapping[str, Array], device: str) -> tuple[str, Mapping[str, Array]]:
    """What outputs are compared with: PyTorch's in f64 where it is installed, else ONNX Runtime's. Its name first.

    Of several formulations on the last, because the first of Longformer at batch 16 gathers 70 GB in f64.
    """
    formulation, model = list(case.formulations().items())[-1]
    if find_spec("torch") is not None:
        from examples.gpu.torch_runs import TorchRuns

        return f"torch in f64 on {formulation}", TorchRuns(model, feeds, device).reference()
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return f"ONNX Runtime on {formulation}", dict(zip(names, session.run(names, dict(feeds)), strict=True))


Made = tuple[Call, Mapping[str, Array]]


def _torch_makers(
    case: Case, model: onnx.ModelProto, feeds: Mapping[str, Array], device: str, setting: Setting
) -> Iterator[tuple[str, Callable[[], Made]]]:
    """By peer, what makes it ready and calls it once."""
    wanted = [name for name in PEERS if name in setting.against and name != "tvm"]
    if find_spec("torch") is None:
        for name in wanted:
            yield name, _no_torch
        return
    from examples.gpu.torch_runs import TorchRuns

    runs: list[TorchRuns] = []

    def ready() -> TorchRuns:
        if not runs:
            runs.append(TorchRuns(model, feeds, device))
        return runs[0]

    kinds: dict[str, Callable[[], Call]] = {
        "torch": lambda: ready().eager(),
        "torch-graph": lambda: ready().graphed(),
        "torch.compile": lambda: ready().compiled("default"),
        "max-autotune": lambda: _tuned(ready(), model, feeds, device, setting.compile_seconds),
    }
    for name, make in kinds.items():
        if name in wanted:
            yield name, lambda make=make: _first(make(), ready().outputs)  # type: ignore[misc]
    operator = case.operator
    if "direct" in wanted and operator is not None:
        from examples.gpu.direct import direct_calls
        from examples.gpu.torch_runs import placed

        outputs = [value.name for value in model.graph.output]
        tensors, weights = (
            {name: placed(array, device) for name, array in group.items()} for group in (feeds, weights_of(model))
        )
        for name, make in direct_calls(operator, tensors, weights, device).items():
            yield name, lambda make=make: _first(make(), outputs)  # type: ignore[misc]


def _no_torch() -> Made:
    raise Refused("torch is not installed")


def _first(call: Call, names: list[str]) -> Made:
    """The call, and the outputs of its first time on the host."""
    from examples.gpu.torch_runs import on_host

    results: Any = call()
    several = results if isinstance(results, tuple) else (results,)
    return call, {name: on_host(value) for name, value in zip(names, several, strict=True)}


def _tuned(runs: Any, model: onnx.ModelProto, feeds: Mapping[str, Array], device: str, seconds: float) -> Call:
    """Compiled in a process that may take so long, which leaves its choices in Inductor's cache, and then here.

    Refused where it takes longer.
    """
    tried = limited(seconds, _compiles, model.SerializeToString(), feeds, device)
    if isinstance(tried, str):
        raise Refused(f"it did not compile: {tried}")
    call: Call = runs.compiled("max-autotune")
    return call


def _compiles(model: bytes, feeds: Mapping[str, Array], device: str) -> bool:
    from examples.gpu.torch_runs import TorchRuns

    TorchRuns(onnx.load_from_string(model), feeds, device).compiled("max-autotune")()
    return True


def _tvm(model: onnx.ModelProto, feeds: Mapping[str, Array], device: str, folder: Path) -> Made:
    if find_spec("torch") is None:
        raise Refused("TVM's tensors are placed by torch, which is not installed")
    import torch

    from examples.gpu.torch_runs import finished, on_host, placed

    def place(array: Array) -> torch.Tensor:
        return placed(array, device)

    plain = PlainTvm(folder, folder.parent / RUNTIME, weights_of(model), place, cuda=device == "cuda")
    given = plain.given({name: place(array) for name, array in feeds.items()})
    call = finished(lambda: plain(given), device)
    results: Any = call()
    return call, {name: on_host(torch.from_dlpack(value)) for name, value in zip(plain.outputs, results, strict=True)}


def _fastest(several: list[Contender]) -> Contender:
    """Of the same engine on several formulations."""
    if len(several) == 1:
        return several[0]
    times = alternate({str(place): one.call for place, one in enumerate(several)}, 5, block_seconds=0.02, budget=2.0)
    return several[min(range(len(several)), key=lambda place: times[str(place)].median)]
