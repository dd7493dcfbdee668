"""The example models compiled for GPUs: what is said of them, and how what their kernels need is put together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from examples import gpu_targets
from examples.gpu_targets import LIGHT, main, measured, needs, table
from examples.models import MODELS


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def launch(**changed: Any) -> dict[str, Any]:
    """What `optimize` tells of a launch."""
    least = {"registers": 16, "stack_bytes": 0, "shared_bytes": 0, "occupancy": 1.0}
    return {**least, "spilled_store_bytes": 0, "spilled_load_bytes": 0, **changed}


KERNELS = [
    {"output": "a", "kernel": "kernel_0", "schedules": ["injective"], "launches": [launch()]},
    {
        "output": "b", "kernel": "kernel_1", "schedules": ["reduction by blocks", "injective"],
        "launches": [launch(shared_bytes=1024), launch(registers=40, spilled_store_bytes=8, occupancy=0.75)],
    },
    {"output": "c", "kernel": "kernel_0", "schedules": ["injective"], "launches": [launch(stack_bytes=48)]},
]  # fmt: skip


def test_the_most_that_a_launch_needs_is_found_with_the_launch() -> None:
    found = needs(KERNELS)
    assert (found["kernels"], found["launches"], found["spilling"]) == (2, 4, 1)
    assert (found["most_registers"]["output"], found["most_registers"]["schedule"]) == ("b", "injective")
    assert found["most_shared_bytes"]["schedule"] == "reduction by blocks"
    assert found["most_stack_bytes"]["output"] == "c"
    assert found["least_occupancy"]["occupancy"] == 0.75


def test_a_device_whose_compiler_says_nothing() -> None:
    found = needs([{**KERNELS[0], "launches": [{"grid": [1, 1, 1], "block": [1, 1, 1]}]}])
    assert found == {"kernels": 1, "launches": 1}


def row(**more: Any) -> dict[str, Any]:
    check = {"max_rel_error": 1e-6, "statements_checked": 3, "max_share_of_bound": 0.02}
    stages = {"import": 0.1, "optimize": 2.0, "compile": 3.0, "check": 1.0}
    return {"model": "m", "target": "t", "seconds": 8.0, "stages": stages, "rewrites": 1, "check": check, **more}


def test_the_table_has_a_cell_for_each_title() -> None:
    rows = {
        "m, cuda:a100": row(milliseconds=None, **needs(KERNELS)),
        "m, opencl": row(milliseconds=2.5, kernels=2, launches=4),
        "n, opencl": {"failed": "took longer than 9 s"},
    }
    lines = table(rows).splitlines()
    assert len({entry.count("|") for entry in lines}) == 1
    assert lines[2] == "| m | t | 8.0 | 2.0 | 3.0 | 1 | 2 | 4 | 40 | 8 | 48 | 1024 | 0.75 | 1.0e-06 | 3 | 2% |  |"
    assert lines[3] == "| m | t | 8.0 | 2.0 | 3.0 | 1 | 2 | 4 |  |  |  |  |  | 1.0e-06 | 3 | 2% | 2.5 |"
    assert "took longer than 9 s" in lines[4]


def test_every_model_for_every_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str, int, str]] = []

    def isolated(measure: Any, *arguments: Any) -> dict[str, Any]:
        assert measure is gpu_targets.measured
        asked.append(arguments)
        return row(milliseconds=None, **needs(KERNELS))

    monkeypatch.setattr("examples.runs.isolated", isolated)
    assert main(["--json", str(tmp_path / "rows.json")]) == 0
    assert asked == [(name, target, 1, "fast") for target in ("cuda:h200", "cuda:a100") for name in MODELS]
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == 2 * len(MODELS) == 34
    asked.clear()
    assert main(["--light", "--target", "opencl"]) == 0
    assert [name for name, *_ in asked] == list(LIGHT)
    assert "| --- |" in capsys.readouterr().out


def test_a_model_that_takes_too_long_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dcgan", "--target", "opencl", "--limit", "0.1"]) == 1
    assert "took longer than 0.1 s" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_runs_on_the_opencl_device() -> None:
    found = measured("fsrcnn", "opencl", 1, "fast")
    assert found["check"]["ok"]
    assert found["check"]["statements_checked"] >= 3
    assert found["milliseconds"] > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, which no machine without the CUDA toolkit has")
@pytest.mark.parametrize("target", ["cuda:a100", "cuda:h200"])
def test_a_model_compiles_for_gpus(target: str) -> None:
    found = measured("fsrcnn", target, 1, "fast")
    assert found["check"]["ok"]
    assert 0 < found["most_registers"]["registers"] <= 128
    assert found["spilling"] == 0
