"""``torch.compile`` on the CPU: the graph as a module of PyTorch's functions, frozen, compiled whole by Inductor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensoropt.ir.program import Array
from tensoropt.peers.peer import Peer, Refused, Run, Shapes, brief


class Torch(Peer):
    name = "torch"
    distribution = "torch"
    module = "torch"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        import numpy as np
        import onnx
        import torch
        from torch._inductor import config

        from tensoropt.peers.torch_graph import TorchGraph

        torch.set_num_threads(threads)
        config.freezing = True  # weights are constants: folded, and packed for oneDNN
        torch._dynamo.config.recompile_limit = 256  # every model is another compilation of one ``forward``
        loaded = onnx.load(model)
        graph = TorchGraph(loaded).eval()
        types = {value.name: value.type.tensor_type.elem_type for value in loaded.graph.input}
        example = {
            name: np.zeros(shapes[name], onnx.helper.tensor_dtype_to_np_dtype(types[name])) for name in graph.inputs
        }
        compiled = torch.compile(graph, fullgraph=True, dynamic=False)

        def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
            with torch.inference_mode():
                results = compiled(*(torch.from_numpy(feeds[name]) for name in graph.inputs))
                return {name: value.numpy() for name, value in zip(graph.outputs, results, strict=True)}

        try:
            run(example)
        except Exception as error:
            raise Refused(f"torch.compile does not compile the model ({brief(error)})") from error
        return run
