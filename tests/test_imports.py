"""What is imported when: the command line starts light, and a deployed model needs no optimizer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

import tensoropt

ROOT = Path(__file__).resolve().parent.parent


def modules_after(program: str, folder: Path) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running a program."""
    listing = "import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{listing}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    found = modules_after("from tensoropt.cli import main; main(['--help'])", tmp_path)
    assert found.isdisjoint(
        {"numpy", "onnx", "onnx_ir", "onnxruntime", "tvm", "tvm_ffi", "ortools", "sympy", "networkx"}
    )


def test_a_loaded_model_needs_no_optimizer(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = tensoropt.optimize(model, tune="off").save(tmp_path / "artefact")
    program = f"""
import numpy, tensoropt
model = tensoropt.load({str(folder)!r})
print(model.run({{"x": numpy.float32([-1, 0, 1, 2])}})["y"].tolist())"""
    found = modules_after(program, tmp_path)
    assert found.isdisjoint({"onnx", "onnx_ir", "onnxruntime", "ortools", "passes", "sympy", "networkx", "tvm"})
    np.testing.assert_array_equal(
        tensoropt.load(folder).run({"x": np.array([-1, 0, 1, 2], np.float32)})["y"], [0, 0, 1, 2]
    )
