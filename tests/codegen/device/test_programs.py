"""Programs for a device: values at aligned places of one arena, artefacts that run again, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from codegen import artefact
from codegen.device import opencl
from codegen.device.build import BuiltDeviceProgram
from codegen.device.table import Place, Start, as_json, from_json
from codegen.signature import Signature
from tensoropt.api.compiling import compiled_for_device
from tensoropt.errors import ArtefactError, InputError, ModelError, UsageError
from tensoropt.ir.expression import Access, Apply, Reducer, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Array, Compute, Opaque, Program
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.compilers import OPENCL


def matrix(name: str, *shape: int) -> Tensor:
    return Tensor(name, TensorType(DataType.FLOAT32, tuple(Extent(extent) for extent in shape)))


def program() -> Program:
    """``x·w``, normalised by its rows' maxima, then beside itself in a whole whose second part starts at no boundary."""
    x, w, h, n, y = (matrix(*one) for one in (("x", 5, 7), ("w", 7, 9), ("h", 5, 9), ("n", 5, 9), ("y", 10, 9)))
    i, j, k, p = Iterator("i", 5), Iterator("j", 9), Iterator("k", 7), Iterator("p", 10)
    product = Compute(h, Scope([i, j], Apply("mul", Access(x, [i, k]), Access(w, [k, j])), [k]))
    top = Scope([i], Access(h, [i, j]), [j], Reducer.MAX)
    normal = Compute(n, Scope([i, j], Apply("sub", Access(h, [i, j]), Access(top, [i]))))
    both = Apply("add", Access(h, [p, j], 0.0), Access(n, [Index.of(p) - 5, j], 0.0))
    joined = Compute(y, Scope([p, j], both))
    weight = np.arange(63, dtype=np.float32).reshape(7, 9) % 7 - 3
    return Program("p", (x,), (y, x, w, n), {"w": weight}, (product, normal, joined))


@pytest.fixture(scope="module")
def built() -> BuiltDeviceProgram:
    return compiled_for_device(program(), OPENCL)


@pytest.fixture
def feeds() -> dict[str, Array]:
    return {"x": np.arange(35, dtype=np.float32).reshape(5, 7) % 5 - 2}


def require_equal(actual: dict[str, Array], feeds: dict[str, Array]) -> None:
    expected = run_program(program(), feeds)
    for name, array in actual.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_a_run_gives_what_the_interpreter_gives(built: BuiltDeviceProgram, feeds: dict[str, Array]) -> None:
    results = built.model().run(feeds)
    assert list(results) == ["y", "x", "w", "n"]
    require_equal(results, feeds)


def test_every_statement_runs_alone(built: BuiltDeviceProgram, feeds: dict[str, Array]) -> None:
    values = {**run_program(program(), feeds), **feeds, **program().constants}
    for statement in built.program.statements:
        for name, array in built.execute(statement, values).items():
            np.testing.assert_array_equal(array, values[name])


def test_values_start_at_multiples_of_the_alignment(built: BuiltDeviceProgram) -> None:
    offsets = [*built.plan.offsets.values(), *built.plan.workspaces.values()]
    places = [place.offset for start in built.starts for place in start.arguments if place.region == "weights"]
    assert offsets
    assert places
    assert not any(offset % OPENCL.alignment for offset in (*offsets, *places))


def test_round_trip(built: BuiltDeviceProgram, feeds: dict[str, Array], tmp_path: Path) -> None:
    folder = artefact.save(built, tmp_path / "folder")
    require_equal(artefact.load(folder).run(feeds), feeds)
    manifest = artefact.read_manifest(folder)
    assert manifest["target"]["kind"] == "opencl"
    assert {"kernels.cl", "launches.json", "weights.bin"} <= set(manifest["files"])
    assert from_json(as_json(built.starts)) == built.starts


def test_the_loader_imports_no_compiler(built: BuiltDeviceProgram, tmp_path: Path) -> None:
    folder = artefact.save(built, tmp_path / "folder")
    program = (
        "import sys; from codegen.reading import load; load(sys.argv[1]); "
        "print([name for name in ('tvm', 'onnx', 'passes') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_runs_from_several_threads(built: BuiltDeviceProgram) -> None:
    model = built.model()
    inputs = [{"x": np.full((5, 7), number, np.float32)} for number in range(16)]
    with ThreadPoolExecutor(4) as pool:
        for feeds, results in zip(inputs, pool.map(model.run, inputs), strict=True):
            require_equal(results, feeds)


def test_inputs_that_do_not_fit(built: BuiltDeviceProgram) -> None:
    with pytest.raises(InputError, match="the input 'x' has shape"):
        built.model().run({"x": np.zeros((5, 8), np.float32)})


@pytest.mark.parametrize("name", ["kernels.cl", "launches.json", "weights.bin"])
def test_damage_is_noticed(built: BuiltDeviceProgram, tmp_path: Path, name: str) -> None:
    folder = artefact.save(built, tmp_path / "folder")
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name} is missing from the artefact"):
        artefact.load(folder)


def test_changed_code_is_not_run(built: BuiltDeviceProgram, tmp_path: Path) -> None:
    folder = artefact.save(built, tmp_path / "folder")
    text = (folder / "launches.json").read_text()
    (folder / "launches.json").write_text(text.replace("256", "255", 1))
    with pytest.raises(ArtefactError, match=r"launches\.json is not the file that was written"):
        artefact.load(folder)


def test_an_artefact_for_another_kind_of_device(built: BuiltDeviceProgram, tmp_path: Path) -> None:
    folder = artefact.save(built, tmp_path / "folder")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["target"]["kind"] = "abacus"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="the manifest is damaged"):
        artefact.load(folder)


def test_an_operator_that_the_algebra_does_not_express_is_named() -> None:
    x, y = matrix("x", 3), matrix("y", 3)
    statement = Opaque((y,), (x,), "Mystery", "", 17, b"", ("node_7",))
    with pytest.raises(ModelError, match=r"y \(from node_7\): the operator Mystery is not compiled for opencl devices"):
        compiled_for_device(Program("p", (x,), (y,), {}, (statement,)), OPENCL)


def test_without_pyopencl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    with pytest.raises(UsageError, match=r"pyopencl, which is not installed; install tensoropt\[opencl\]"):
        opencl.find_device()


def test_without_a_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyopencl as cl

    def none() -> list[object]:
        raise cl.LogicError("clGetPlatformIDs", cl.status_code.INVALID_VALUE, "none")

    monkeypatch.setattr(cl, "get_platforms", none)
    with pytest.raises(UsageError, match="there is no OpenCL platform on this machine"):
        opencl.find_device()


def test_without_shared_virtual_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencl, "_shares_memory", lambda device: False)
    with pytest.raises(UsageError, match="has no shared virtual memory"):
        opencl.find_device()


def test_kernels_that_the_device_does_not_compile() -> None:
    with pytest.raises(ArtefactError, match="cannot compile the kernels"):
        opencl.Code("__kernel void wrong(")


def test_out_of_the_devices_memory_is_one_sentence() -> None:
    code = opencl.Code("__kernel void none(__global float* x) { x[0] = 0.0f; }")
    with pytest.raises(UsageError) as caught:
        opencl.Memory(code, 1 << 60)
    assert str(caught.value).endswith(f"has no room for {1 << 60} bytes; free memory there, or run a smaller batch")


def test_blocks_of_another_device_are_one_sentence() -> None:
    code = opencl.Code("__kernel void none(__global float* x) { x[0] = 0.0f; }")
    most = code.device.max_work_group_size
    start = Start("none", (1, 1, 1), (2 * most, 1, 1), (Place("arena"),))
    signature = Signature((), (), (), 0, 64, 1)
    with pytest.raises(ArtefactError, match=f"has {2 * most} threads and .* optimize the model on this machine"):
        opencl.DeviceModel(code, [start], signature, np.zeros(0, np.uint8)).run({})
