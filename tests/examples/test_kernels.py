"""Kernels are built as their definitions say, and the table tells what bounds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from examples import kernel_cases, kernels
from examples.kernel_cases import CASES, band_chunked, band_gathered
from tests.strategies.benchmark_rows import row
from tests.strategies.small_models import expected


@pytest.mark.parametrize("label", [label for label in CASES if not label.startswith("band")])
def test_a_case_counts_what_its_model_reads_and_writes(label: str) -> None:
    case = CASES[label]
    graph = case.build().graph
    weights = sum(len(tensor.raw_data) for tensor in graph.initializer)
    given = sum(_bytes(value) for value in graph.input)
    small = sum(len(tensor.raw_data) for tensor in graph.initializer if len(tensor.raw_data) <= 4096)  # biases
    assert given + weights - small <= case.reads <= given + weights
    assert case.writes == sum(_bytes(value) for value in graph.output)


def _bytes(value: onnx.ValueInfoProto) -> int:
    return 4 * int(np.prod([dimension.dim_value for dimension in value.type.tensor_type.shape.dim]))


def test_bands_are_their_definition_in_every_formulation(monkeypatch: pytest.MonkeyPatch) -> None:
    heads, length, width, window, dilation = 2, 24, 3, 2, 4
    sizes = {"HEADS": heads, "LENGTH": length, "WIDTH": width, "WINDOW": window, "DILATION": dilation}
    for name, value in {**sizes, "DIAGONALS": 2 * window + 1}.items():
        monkeypatch.setattr(kernel_cases, name, value)
    generator = np.random.default_rng(0)
    query, key = (generator.standard_normal((heads, length, width)).astype(np.float32) for _ in range(2))
    band = np.zeros((heads, length, 2 * window + 1), np.float32)
    for i in range(length):
        for j in range(2 * window + 1):
            position = i + dilation * (j - window)
            if 0 <= position < length:
                band[:, i, j] = (query[:, i] * key[:, position]).sum(-1)
    for model in (band_gathered(), band_chunked(2), band_chunked(3), band_chunked(6)):
        (found,) = expected(model, {"query": query, "key": key})
        np.testing.assert_allclose(found, band, rtol=1e-5, atol=1e-6)


def test_the_band_counts_only_keys_inside() -> None:
    case = CASES["band MatMul 8×10000×64, w 1000, d 4"]
    assert case.operations == 2 * 8 * 64 * (10000 * 2001 - 2 * 4 * sum(range(1001)))


def kernel(ours: float, bound: str) -> dict[str, Any]:
    extra = {"operations": 3e9, "bytes": 4e7, "least_ms": 1.5, "peak_gflops": 200.0, "moving_gb_per_second": 30.0}
    return {**row("kernel", ours, onnxruntime=4.0, torch=2.5), **extra, "bound": bound}


def test_rates_are_of_what_bounds_a_kernel() -> None:
    rows: dict[str, dict[str, Any]] = {
        "gemm": kernel(2.0, "arithmetic"),
        "softmax": kernel(2.0, "memory"),
        "band": {"failed": "out of memory"},
    }
    lines = kernels.table(rows, ["onnxruntime", "torch"]).splitlines()
    assert lines[2] == "| gemm | 2.000 | 1500 GFLOP/s | 75% | 4.000 | 2.500 | 0.80 | 1.01 | 1.9 | 4.0e-06 |"
    assert "| 20 GB/s | 75% |" in lines[3]
    assert "failed: out of memory" in lines[4]
    assert {line.count("|") for line in lines} == {11}
    assert "geometric mean: 1.25 over 2" in kernels.summary(rows, ["onnxruntime", "torch"])


def test_a_word_that_no_kernel_has_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        kernels.main(["attention"])
    assert "no kernel has attention in its label" in capsys.readouterr().err
