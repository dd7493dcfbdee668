"""TVM as it comes: its importer and its default pipeline for the CPU, which schedules little."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensoropt.ir.program import Array
from tensoropt.peers.peer import Peer, Refused, Run, Shapes, brief


class Tvm(Peer):
    name = "tvm"
    distribution = "apache-tvm"
    module = "tvm"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        import onnx
        import tvm
        from tvm import relax
        from tvm.relax.frontend.onnx import from_onnx

        loaded = onnx.load(model)
        constants = {tensor.name for tensor in loaded.graph.initializer}
        inputs = [value.name for value in loaded.graph.input if value.name not in constants]
        names = [value.name for value in loaded.graph.output]
        tvm.get_global_func("runtime.config_threadpool")(1, threads)
        target = tvm.target.Target({"kind": "llvm", "mcpu": _processor(), "num-cores": threads})
        try:
            module = from_onnx(loaded, shape_dict={name: list(shapes[name]) for name in inputs})
            machine = relax.VirtualMachine(tvm.compile(module, target), tvm.cpu())
        except Exception as error:
            raise Refused(f"TVM does not compile the model ({brief(error)})") from error

        def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
            results = machine["main"](*(tvm.runtime.tensor(feeds[name]) for name in inputs))
            several = results if len(names) > 1 else [results]
            return {name: value.numpy() for name, value in zip(names, several, strict=True)}

        return run


def _processor() -> str:
    """This processor as LLVM calls it."""
    import tvm

    return str(tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")())
