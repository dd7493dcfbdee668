"""ONNX Runtime on the CPU: all graph optimizations, thread spinning as by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensoropt.ir.program import Array
from tensoropt.peers.peer import Peer, Refused, Run, Shapes, brief


class OnnxRuntime(Peer):
    name = "onnxruntime"
    distribution = "onnxruntime"
    module = "onnxruntime"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Refused(f"ONNX Runtime does not load the model ({brief(error)})") from error
        names = [output.name for output in session.get_outputs()]

        def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
            return dict(zip(names, session.run(names, feeds), strict=True))

        return run
