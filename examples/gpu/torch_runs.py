"""The peers on the device: PyTorch as it is, compiled, and in f64 as a reference. Needs torch.

f32 is exact in all of them, as it is in ours: TF32 is off. Weights and inputs lie on the device, outputs stay there, and a call
ends when the device has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import torch

from tensoropt.ir.program import Array
from tensoropt.peers.torch_graph import TorchGraph

Call = Callable[[], object]


class TorchRuns:
    """A model's graph on a device (``cuda`` or ``cpu``), on given inputs. ``tensors`` are these inputs there, by name.

    Refused for an operator that is not written in ``tensoropt.peers.torch_operators``.
    """

    def __init__(self, model: Path, feeds: Mapping[str, Array], device: str) -> None:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._device, self._loaded = device, onnx.load(model)
        self._graph = TorchGraph(self._loaded).eval().to(device)
        self.tensors = {name: torch.from_numpy(array.copy()).to(device) for name, array in feeds.items()}

    def eager(self) -> Call:
        """Operator by operator."""
        return self._calls(self._graph)

    def compiled(self) -> Call:
        """Through Inductor; on a GPU with CUDA graphs, which ours has too. The first call compiles."""
        mode = "reduce-overhead" if self._device == "cuda" else "default"
        return self._calls(torch.compile(self._graph, fullgraph=True, dynamic=False, mode=mode))

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
                results = graph(*given)
                if self._device == "cuda":
                    torch.cuda.synchronize()
                return results

        return call
