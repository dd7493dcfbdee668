"""Artefacts: round trip, damage, foreign folders, other machines, and runs from several threads."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from codegen import artefact
from codegen.build import BuiltProgram, compile_program
from codegen.targets.cpu import host_target
from tensoropt.allocation import Placement
from tensoropt.errors import ArtefactError, InputError, UsageError
from tensoropt.ir.expression import Access, Apply, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType


def matrix(name: str, *shape: int) -> Tensor:
    """A tensor of floats."""
    return Tensor(name, TensorType(DataType.FLOAT32, tuple(Extent(extent) for extent in shape)))


@pytest.fixture(scope="module")
def built() -> BuiltProgram:
    """``y = relu(x·w)·x`` with outputs that are also an input, a constant, and named twice."""
    x, w, h, y = matrix("x", 5, 20), matrix("w", 20, 20), matrix("h", 5, 20), matrix("y", 5, 20)
    i, j, k = Iterator("i", 5), Iterator("j", 20), Iterator("k", 20)
    core = Scope([i, j], Apply("mul", Access(x, [i, k]), Access(w, [k, j])), [k])
    first = Compute(h, Scope([i, j], Apply("relu", Access(core, [i, j]))))
    second = Compute(y, Scope([i, j], Apply("mul", Access(h, [i, j]), Access(x, [i, j]))))
    weight = np.arange(400, dtype=np.float32).reshape(20, 20) % 7 - 3
    program = Program("p", (x,), (y, x, w, y), {"w": weight}, (first, second))
    return compile_program(program, Placement({"h": 0}, 448, 448), host_target(2))


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    """Small integers."""
    return {"x": np.arange(100, dtype=np.float32).reshape(5, 20) % 5 - 2}


def expected(built: BuiltProgram, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The output y."""
    result: np.ndarray = np.maximum(feeds["x"] @ built.program.constants["w"], 0) * feeds["x"]
    return result


def test_a_replaced_folder_is_loaded_anew(built: BuiltProgram, feeds: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Also in a process that still runs the library that was there before."""
    x, y = matrix("x", 5, 20), matrix("y", 5, 20)
    i, j = Iterator("i", 5), Iterator("j", 20)
    double = Compute(y, Scope([i, j], Apply("add", Access(x, [i, j]), Access(x, [i, j]))))
    other = compile_program(Program("q", (x,), (y,), {}, (double,)), Placement({}, 0, 0), host_target(2))
    for _ in range(2):
        folder = artefact.save(built, tmp_path / "model")
        first = artefact.load(folder)
        artefact.save(other, folder)
        second = artefact.load(folder)
        np.testing.assert_array_equal(first.run(feeds)["y"], expected(built, feeds))
        np.testing.assert_array_equal(second.run(feeds)["y"], 2 * feeds["x"])


def test_round_trip(built: BuiltProgram, feeds: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = artefact.save(built, tmp_path / "model", files={"a/b.txt": b"hello"}, extra={"model": {"name": "p"}})
    assert (folder / "a/b.txt").read_bytes() == b"hello"
    model = artefact.load(folder)
    results = model.run(feeds)
    np.testing.assert_array_equal(results["y"], expected(built, feeds))
    np.testing.assert_array_equal(results["x"], feeds["x"])
    np.testing.assert_array_equal(results["w"], built.program.constants["w"])
    assert not np.shares_memory(results["x"], feeds["x"])
    assert artefact.read_manifest(folder)["model"] == {"name": "p"}
    np.testing.assert_array_equal(built.model().run(feeds)["y"], results["y"])


def test_the_loader_imports_no_compiler(built: BuiltProgram, tmp_path: Path) -> None:
    folder = artefact.save(built, tmp_path / "model")
    code = (
        "import sys, numpy; from pathlib import Path; from codegen.reading import load; "
        f"m = load(Path({str(folder)!r})); m.run({{'x': numpy.ones((5, 20), 'f4')}}); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'tvm', 'onnx', 'ortools', 'passes', 'sympy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_runs_from_several_threads(built: BuiltProgram, tmp_path: Path) -> None:
    model = artefact.load(artefact.save(built, tmp_path / "model"))
    inputs = [{"x": np.full((5, 20), value, np.float32)} for value in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for one, result in zip(inputs * 10, pool.map(model.run, inputs * 10), strict=True):
            np.testing.assert_array_equal(result["y"], expected(built, one))


@pytest.mark.parametrize("name", ["model.so", "weights.bin", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damage_is_noticed(built: BuiltProgram, tmp_path: Path, name: str, damage: str) -> None:
    folder = artefact.save(built, tmp_path / "model")
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtefactError, match=name.replace(".", r"\.")):
        artefact.load(folder)


def test_changed_code_is_not_run(built: BuiltProgram, tmp_path: Path) -> None:
    folder = artefact.save(built, tmp_path / "model")
    content = bytearray((folder / "model.so").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.so").write_bytes(content)
    with pytest.raises(ArtefactError, match="not the file that was written"):
        artefact.load(folder)


def test_another_machine_or_version_is_refused(
    built: BuiltProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = artefact.save(built, tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr("codegen.reading.runtime_features", lambda: ("sse2",))
        with pytest.raises(ArtefactError, match="which this machine lacks"):
            artefact.load(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(ArtefactError, match="format version 99"):
        artefact.load(folder)


def test_foreign_folders(built: BuiltProgram, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such folder"):
        artefact.load(tmp_path / "none")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("keep")
    with pytest.raises(ArtefactError, match="not an artefact"):
        artefact.load(foreign)
    with pytest.raises(UsageError, match="not an artefact"):
        artefact.save(built, foreign)
    assert (foreign / "mine.txt").read_text() == "keep"
    artefact.save(built, foreign, force=True)
    artefact.save(built, foreign)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "'x' .* is missing"),
        ({"x": np.zeros((5, 20), np.float64)}, "is float64"),
        ({"x": np.zeros((5, 21), np.float32)}, r"shape \(5, 21\)"),
        ({"x": np.zeros((5, 20), np.float32), "z": np.zeros(1)}, "no input 'z'"),
    ],
)
def test_inputs_that_do_not_fit(built: BuiltProgram, wrong: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        built.model().run(wrong)
