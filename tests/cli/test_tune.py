"""``tune``: the database is filled, a folder is replaced by a faster one that gives the same results, and left alone otherwise."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tensoropt
from codegen.targets.cpu import host_target
from codegen.tune.database import FILE, Database
from codegen.tune.records import Records
from tensoropt.api import tuning
from tensoropt.api.compiling import compiled
from tensoropt.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def convolutions(path: Path, *channels: int) -> Path:
    """A model of convolutions and activations, one after another."""
    nodes, weights, value = [], [], "x"
    for number, (before, after) in enumerate(pairwise(channels)):
        generator = np.random.default_rng(number)
        array = generator.standard_normal((after, before, 3, 3)).astype(np.float32) / np.float32(3 * before**0.5)
        weights.append(numpy_helper.from_array(array, f"w{number}"))
        nodes += [
            helper.make_node("Conv", [value, f"w{number}"], [f"c{number}"], name=f"conv{number}", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"], name=f"act{number}"),
        ]
        value = f"r{number}"
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels[0], 14, 14])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was optimized without tuning; copied before it is tuned."""
    folder = tmp_path_factory.mktemp("untuned")
    model = convolutions(folder / "model.onnx", 8, 24, 24)
    before = os.environ.get("TENSOROPT_CACHE_DIR")
    os.environ["TENSOROPT_CACHE_DIR"] = str(folder / "cache")
    try:
        tensoropt.optimize(model, tune="off", exclude_rules="all", threads=2).save(folder / "made")
    finally:
        os.environ.pop("TENSOROPT_CACHE_DIR")
        if before is not None:
            os.environ["TENSOROPT_CACHE_DIR"] = before
    return folder / "made"


def tune(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What ``tune --json`` says."""
    assert main(["tune", *map(str, arguments), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prefer(path: Path, report: dict[str, Any]) -> list[dict[str, int]]:
    """Has the database say that a variant of each kernel is the fastest, and these: which one is, is not these tests' question."""
    preferred = []
    with Database(path) as database:
        records = Records(database, host_target(2))
        keys = [
            kernel
            for (kernel,) in database._connection.execute("SELECT DISTINCT kernel FROM measurements")  # type: ignore[union-attr]
            if kernel.startswith("kernel: ")
        ]
        assert len(keys) == len(report["kernels"])
        for key in keys:
            entries = records.read(key)
            others = [name for name in entries if name != "{}"]
            variant = max(others, key=lambda name: ("seconds" in entries[name], name))
            records.write(key, {variant: {**entries[variant], "seconds": 1e-7, "default_seconds": 1e-6}})
            preferred.append(json.loads(variant))
    return preferred


def test_a_folder_is_tuned_and_replaced(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, measured, db = tmp_path / "made", tmp_path / "measured", tmp_path / "t.sqlite"
    shutil.copytree(artefact, folder)
    shutil.copytree(artefact, measured)  # may be replaced already: by what is the fastest here and now
    report = tune(capsys, measured, "--trials", 3, "--db", db)
    assert [kernel["outputs"] for kernel in report["kernels"]] == [["r1"], ["r0"]]
    for kernel in report["kernels"]:
        assert kernel["measured"] + len(kernel["failed"]) == 3
        assert 0 < kernel["tuned_ms"] <= kernel["default_ms"]
    assert sum(kernel["share"] for kernel in report["kernels"]) == pytest.approx(1.0)
    assert report["before_ms"] >= report["after_ms"] > 0
    assert report["database"] == {"path": str(db), "measurements": 6}

    preferred = prefer(db, report)
    before, feeds = contents(folder), {"x": np.random.default_rng(3).standard_normal((1, 8, 14, 14)).astype(np.float32)}
    expected = tensoropt.load(folder).run(feeds)["r1"]
    report = tune(capsys, folder, "--trials", 3, "--db", db)
    assert report["artefact"]["replaced"] is True
    assert report["artefact"]["latency_ms"].keys() == {"before", "after"}
    found = [kernel["variant"] for kernel in report["kernels"]]
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, preferred))
    after = contents(folder)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} >= {"manifest.json", "model.so"}
    assert all(after[name] == before[name] for name in ("program.txt", "trace.json", "optimized.onnx"))
    np.testing.assert_allclose(tensoropt.load(folder).run(feeds)["r1"], expected, rtol=1e-4, atol=1e-5)
    assert main(["run", str(folder), "--check", "--json"]) == 0
    capsys.readouterr()

    assert main(["tune", str(folder), "--trials", "3", "--db", str(db)]) == 0
    shown = capsys.readouterr()
    assert "left as it is" in shown.err
    assert "r0 from conv0, act0: contraction" in shown.out
    assert contents(folder) == after


def test_what_tune_measures_optimize_uses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, db = convolutions(tmp_path / "model.onnx", 4, 16), tmp_path / "t.sqlite"
    report = tune(capsys, model, "--trials", 2, "--db", db)
    assert report["artefact"] is None
    assert len(report["kernels"]) == 1
    preferred = prefer(db, report)
    with Database(db) as database:
        before = database.size()[0]
        assert before == report["database"]["measurements"]
    compiled = tensoropt.optimize(model, tune="fast", db=db, check=False)
    assert [compiled.tuning["kernels"][0]["variant"]] == preferred
    assert compiled.report()["tuning"]["stopped"] == ""
    assert not (tmp_path / "cache" / FILE).exists()


def test_a_result_that_differs_leaves_the_folder(
    artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, measured, db = tmp_path / "made", tmp_path / "measured", tmp_path / "t.sqlite"
    shutil.copytree(artefact, folder)
    shutil.copytree(artefact, measured)  # may be replaced already: by what is the fastest here and now
    prefer(db, tune(capsys, measured, "--trials", 2, "--db", db))
    shutil.rmtree(measured)
    before = contents(folder)

    def careless(*arguments: Any, **options: Any) -> Any:
        built = compiled(*arguments, **options)
        built.weights.view(np.float32)[:64] += 1
        return built

    monkeypatch.setattr(tuning, "compiled", careless)
    assert main(["tune", str(folder), "--trials", "2", "--db", str(db)]) == 4
    assert "the folder is as it was" in capsys.readouterr().err
    assert contents(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir() if "sqlite" not in path.name) == ["made"]


@pytest.mark.parametrize("name", ["optimized.onnx", "program.txt", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_folder_is_named(
    name: str, damage: str, artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made"
    shutil.copytree(artefact, folder)
    if damage == "missing":
        (folder / name).unlink()
    else:
        os.truncate(folder / name, (folder / name).stat().st_size // 2)
    assert main(["tune", str(folder)]) == 2
    error = capsys.readouterr().err
    assert str(folder) in error
    assert "Traceback" not in error


def test_weights_of_another_model_are_refused(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made"
    shutil.copytree(artefact, folder)
    model = onnx.load(folder / "optimized.onnx")
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, folder / "optimized.onnx")
    assert main(["tune", str(folder)]) == 2
    assert "another content" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.onnx"], "missing.onnx"),
        (["{model}", "--target", "cuda"], "cuda"),
        (["{model}", "--time-limit", "-1"], "time limit"),
        (["{model}", "--db", "{model}"], "not a tuning database"),
    ],
)
def test_wrong_usage_is_told(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = convolutions(tmp_path / "model.onnx", 4, 8)
    before = model.read_bytes()
    assert main(["tune", *(argument.format(model=model) for argument in arguments)]) == 2
    assert words in capsys.readouterr().err
    assert model.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("interrupts", [1, 2])
def test_an_interrupt_during_tuning_leaves_a_working_result(interrupts: int, tmp_path: Path) -> None:
    """The first ends tuning and the folder is written; the second ends the run, and there is no folder. What was measured stays."""
    model = convolutions(tmp_path / "model.onnx", 4, 16, 24, 32, 40, 48, 56)
    db, folder = tmp_path / "t.sqlite", tmp_path / "made"
    process = subprocess.Popen(
        [sys.executable, "-m", "tensoropt", "optimize", model.name, "-o", "made", "--tune", "full", "--db", db.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where the tests run in the background
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    measured = 0
    while not measured and time.monotonic() < until:
        time.sleep(0.1)
        if db.exists():
            with Database(db) as database:
                found = database._connection.execute(  # type: ignore[union-attr]
                    "SELECT count(*) FROM measurements WHERE kernel LIKE 'kernel: %'"
                ).fetchone()
                measured = found[0]
    for _ in range(interrupts):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert "tuning ends with the best so far" in errors
    with Database(db) as database:
        assert database.size()[0] >= measured > 0
    if interrupts == 1:
        assert process.returncode == 0
        feeds = {"x": np.zeros((1, 4, 14, 14), np.float32)}
        assert tensoropt.load(folder).run(feeds)["r5"].shape == (1, 56, 14, 14)
    else:
        assert process.returncode == 130
        assert sorted(path.name for path in tmp_path.iterdir() if "sqlite" not in path.name) == ["cache", "model.onnx"]
