"""TVM as it comes, compiled here and run elsewhere: its importer, its default pipeline and dlight's default schedules on a GPU.

What is sent is the library without weights, which are its parameters, and TVM's runtime libraries (4 MiB); the machine that runs it
needs ``apache-tvm-ffi`` and not the compiler (a wheel of 100 MB).
"""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tensoropt.ir.program import Array
from tensoropt.peers.peer import Refused, brief

LIBRARY, SIGNATURE, RUNTIME = "tvm.so", "tvm.json", "tvm-runtime"

_RUNTIME_LIBRARIES = ("libtvm_runtime.so", "libtvm_runtime_cuda.so")

_CPU, _CUDA = 1, 2
"""Kinds of device, as DLPack numbers them."""

_POOLED = 2
"""The virtual machine's allocator that keeps memory for the next run."""


def compile_plain(model: onnx.ModelProto, target: Any, folder: Path) -> None:
    """Writes the library of a model for a target of ours, and what it takes. Refused, in a sentence, where TVM does not compile it.

    For OpenCL, of which TVM's wheel has no runtime, it is compiled for the processor.
    """
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    weights = weights_of(model)
    inputs = [value for value in model.graph.input if value.name not in weights]
    shapes = {value.name: [one.dim_value for one in value.type.tensor_type.shape.dim] for value in inputs}
    try:
        module = from_onnx(model, shape_dict=shapes, keep_params_in_input=True)
        module, values = relax.frontend.detach_params(module)
        names = [parameter.name for parameter in module["main"].params][len(inputs) :]
        values = values.get("main", [])
        compiled = tvm.compile(module, target.tvm() if target.kind == "cuda" else tvm.target.Target("llvm"))
        compiled.export_library(str(folder / LIBRARY))
    except Exception as error:
        raise Refused(f"TVM does not compile the model ({brief(error)})") from error
    for name, value in zip(names, values, strict=True):
        if name not in weights or not np.array_equal(value.numpy(), weights[name]):
            raise Refused(f"TVM changes the weight {name} when it imports the model")
    taken = {"inputs": list(shapes), "weights": names, "outputs": [value.name for value in model.graph.output]}
    (folder / SIGNATURE).write_text(json.dumps(taken) + "\n")


def copy_runtime(folder: Path) -> None:
    """TVM's runtime libraries, to be sent along."""
    import tvm

    assert tvm.__file__ is not None
    folder.mkdir(parents=True, exist_ok=True)
    for name in _RUNTIME_LIBRARIES:
        shutil.copyfile(Path(tvm.__file__).parent / "lib" / name, folder / name)


def weights_of(model: onnx.ModelProto) -> dict[str, Array]:
    """The model's initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


class PlainTvm:
    """A library that ``compile_plain`` wrote, on this machine's GPU or processor. Refused where it does not load.

    ``place`` puts an array where the device reads it, as a tensor that has ``__dlpack__``; ``runtime`` is the folder of libraries.
    """

    def __init__(self, folder: Path, runtime: Path, weights: Mapping[str, Array], place: Any, cuda: bool) -> None:
        if not (folder / LIBRARY).is_file():
            raise Refused("TVM's library was not prepared")
        taken = json.loads((folder / SIGNATURE).read_text())
        self.outputs: list[str] = taken["outputs"]
        self._inputs: list[str] = taken["inputs"]
        try:
            self._ffi = _runtime(runtime, cuda)
            self._weights = [self._ffi.from_dlpack(place(weights[name])) for name in taken["weights"]]
            self._machine = self._ffi.load_module(str(folder / LIBRARY))["vm_load_executable"]()
            devices = [_CUDA, 0, _POOLED, _CPU, 0, _POOLED] if cuda else [_CPU, 0, _POOLED]
            self._machine["vm_initialization"](*devices)
        except Exception as error:
            raise Refused(f"TVM's library does not load ({brief(error)})") from error

    def given(self, tensors: Mapping[str, Any]) -> list[Any]:
        """What a call takes, made once: inputs, by name and on the device, and weights."""
        return [*(self._ffi.from_dlpack(tensors[name]) for name in self._inputs), *self._weights]

    def __call__(self, given: Sequence[Any]) -> Sequence[Any]:
        """The outputs on the device, which need not have been computed yet."""
        results = self._machine["main"](*given)
        return list(results) if len(self.outputs) > 1 else [results]


def _runtime(folder: Path, cuda: bool) -> Any:
    """The module by which TVM's functions are called, its libraries loaded: once, for they register functions by name."""
    import tvm_ffi

    proofs = ("runtime.config_threadpool", "device_api.cuda")
    for name, proof in [*zip(_RUNTIME_LIBRARIES, proofs, strict=True)][: 2 if cuda else 1]:
        if tvm_ffi.get_global_func(proof, allow_missing=True) is None:
            ctypes.CDLL(str((folder / name).absolute()), ctypes.RTLD_GLOBAL)
    return tvm_ffi
