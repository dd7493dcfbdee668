"""OpenVINO on the CPU, for latency, in f32 (it would take bf16 where the processor has it)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensoropt.ir.program import Array
from tensoropt.peers.peer import Peer, Refused, Run, Shapes, brief


class OpenVino(Peer):
    name = "openvino"
    distribution = "openvino"
    module = "openvino"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # the machine is shared, and so is the process
        }
        try:
            network = core.read_model(str(model))
            if network.is_dynamic():
                network.reshape({name: list(shape) for name, shape in shapes.items()})
            compiled = core.compile_model(network, "CPU", settings)
        except Exception as error:
            raise Refused(f"OpenVINO does not compile the model ({brief(error)})") from error
        request = compiled.create_infer_request()
        names = [output.get_any_name() for output in network.outputs]

        def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
            results = request.infer(dict(feeds), share_inputs=True)
            return {name: results[position] for position, name in enumerate(names)}

        return run
