"""The peers on the device: PyTorch as it is, compiled, and in f64 as a reference. Needs torch.

f32 is exact in all of them, as it is in ours: TF32 is off. Weights and inputs lie on the device, outputs stay there, and a call
ends when the device has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch

from tensoropt.ir.program import Array
from tensoropt.peers.torch_graph import TorchGraph

Call = Callable[[], object]


class TorchRuns:
    """A model's graph on a device (``cuda`` or ``cpu``), on given inputs. ``tensors`` are these inputs there, by name.

    Refused for an operator that is not written in ``tensoropt.peers.torch_operators``.
    """

    def __init__(self, model: Path | onnx.ModelProto, feeds: Mapping[str, Array], device: str) -> None:
        exact_products()
        self._device = device
        self._loaded = onnx.load(model) if isinstance(model, Path) else model
        self._graph = TorchGraph(self._loaded).eval().to(device)
        self.outputs: list[str] = self._graph.outputs
        self.tensors = {name: placed(array, device) for name, array in feeds.items()}

    def eager(self) -> Call:
        """Operator by operator."""
        return finished(self._calls(self._graph), self._device)

    def graphed(self) -> Call:
        """Operator by operator, recorded in a CUDA graph and replayed; on a processor as ``eager``."""
        return graphed(self._calls(self._graph), self._device)

    def compiled(self, mode: str = "reduce-overhead") -> Call:
        """Through Inductor; by default with CUDA graphs, which ours has too, as ``max-autotune`` has. The first call compiles.

        On a processor there is one mode, the default.
        """
        chosen = mode if self._device == "cuda" else "default"
        return finished(
            self._calls(torch.compile(self._graph, fullgraph=True, dynamic=False, mode=chosen)), self._device
        )

    def reference(self) -> dict[str, Array]:
        """The outputs in f64, of weights and inputs as they are."""
        graph = TorchGraph(self._loaded).eval().double().to(self._device)
        given = [self.tensors[name] for name in graph.inputs]
        with torch.inference_mode():
            results = graph(*(value.double() if value.is_floating_point() else value for value in given))
            return {name: value.cpu().numpy() for name, value in zip(graph.outputs, results, strict=True)}

    def _calls(self, graph: Callable[..., object]) -> Call:
        given = [self.tensors[name] for name in self._graph.inputs]

        def call() -> object:
            with torch.inference_mode():
                return graph(*given)

        return call


def exact_products() -> None:
    """f32 is multiplied as f32 from here on, not as TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def placed(array: Array, device: str) -> torch.Tensor:
    """A copy of an array on the device; NumPy's bfloat16, which torch does not take, by its bits."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).to(device)
    return torch.from_numpy(array.copy()).to(device)


def on_host(value: torch.Tensor) -> Array:
    """A copy of a tensor as an array, bfloat16 as f32."""
    found: Array = (value.float() if value.dtype is torch.bfloat16 else value).detach().cpu().clone().numpy()
    return found


def finished(call: Call, device: str) -> Call:
    """The call until the device has ended."""
    if device != "cuda":
        return call

    def whole() -> object:
        results = call()
        torch.cuda.synchronize()
        return results

    return whole


def graphed(call: Call, device: str) -> Call:
    """A call recorded in a CUDA graph, replayed until the device has ended; on a processor the call itself."""
    if device != "cuda":
        return call
    torch.cuda.synchronize()  # what made the operands ran on another stream
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # libraries choose and allocate in their first calls, which cannot be recorded
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay() -> object:
        graph.replay()
        return results

    return finished(replay, device)
