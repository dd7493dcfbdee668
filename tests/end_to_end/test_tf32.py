"""Models whose products are rounded to tf32, on an OpenCL device that computes what tensor cores would."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.schedules.gpu.contraction import geometry
from codegen.schedules.gpu.contraction.tiles import TensorTile, Tile
from codegen.schedules.sums_of_products import Contraction
from codegen.tune.session import Session, Trial
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written
from tensoropt.api.checking import check_model
from tensoropt.api.compiling import compiled_for_device
from tensoropt.check import random_feeds
from tensoropt.cli import main
from tensoropt.cost import Alternative
from tensoropt.frontend import load_program
from tensoropt.ir.expression import Access, Apply, Constant, Scope, Tensor
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType
from tensoropt.pass_manager import Context
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.codegen.schedules.gpu.contraction.test_tensor import geometries
from tests.end_to_end.test_opencl import small_network
from tests.strategies.compilers import OPENCL

IN_WORDS = replace(OPENCL, tf32=True)
AS_JSON = '{"kind": "opencl", "tf32": true}'


@pytest.fixture
def fast_tensor_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Instructions in words are slow, and chosen all the same."""
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    estimated = geometry._cycles

    def cycles(contraction: Contraction, tile: Tile, *rest: Any) -> float:
        return estimated(contraction, tile, *rest) * (1e-6 if isinstance(tile, TensorTile) else 1.0)

    monkeypatch.setattr(geometry, "_cycles", cycles)


@pytest.mark.usefixtures("fast_tensor_cores")
def test_a_model_is_compiled_checked_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = small_network(tmp_path / "m.onnx"), tmp_path / "out"
    assert main(["optimize", str(path), "--target", AS_JSON, "-o", str(folder), "--tune", "off", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["ok"]
    assert report["target"]["tf32"]
    schedules = [name for kernel in report["kernels"] for name in kernel["schedules"]]
    assert sum(name.endswith("on tf32 tensor cores") for name in schedules) >= 2
    assert json.loads((folder / "manifest.json").read_text())["target"]["tf32"]
    assert main(["run", str(folder), "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["check"]["max_rel_error"] > 1e-5, "f32 differs by less"


@pytest.mark.usefixtures("fast_tensor_cores")
def test_statements_agree_within_what_rounding_of_operands_explains(tmp_path: Path) -> None:
    imported = load_program(small_network(tmp_path / "m.onnx"), {})
    program = compile_as_written(imported.program, Context(EstimatedCosts()))
    feeds, built = random_feeds(imported.program.inputs, 0), compiled_for_device(program, IN_WORDS)
    found = check_model(imported, program, built, feeds, 0, {}, IN_WORDS.operand_roundoff)
    assert found.ok
    assert found.as_json()["max_share_of_bound"] > 0.01, "the bound is about what happens"
    assert not check_model(imported, program, built, feeds, 0, {}).ok


def test_f32_stays_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = small_network(tmp_path / "m.onnx"), tmp_path / "out"
    assert main(["optimize", str(path), "--target", "opencl", "-o", str(folder), "--tune", "off", "--no-check"]) == 0
    capsys.readouterr()
    text = (folder / "manifest.json").read_text()
    assert not json.loads(text)["target"]["tf32"]
    assert "tensor cores" not in text


@pytest.mark.parametrize("exact", [True, False])
def test_tuning_judges_by_what_is_rounded(exact: bool) -> None:
    """Bit for bit on small integers, which tf32 holds; within the rounding of operands otherwise."""
    core, axes = product_of((40, 24, 32), 1, (False, True))
    ended = Access(core, axes) if exact else Apply("tanh", Access(core, axes))
    scope = Scope(axes, Apply("max", ended, Constant(-2, DataType.FLOAT32)))
    kernel = Compute(Tensor("y", scope.type), scope)
    tensor = next(n for n, one in enumerate(geometries(scope, IN_WORDS)) if isinstance(one.tile, TensorTile))
    alternative = Alternative((kernel,), (kernel.output,))
    trials = [Trial(alternative), Trial(alternative, {"y": {"contraction": tensor}})]
    session = Session(IN_WORDS)
    try:
        plain, rounded = session.measure(trials, 0.05)
    finally:
        session.worker.stop()
    assert np.isfinite([plain.cost.seconds, rounded.cost.seconds]).all()
    assert rounded.schedules[0].endswith("on tf32 tensor cores")
