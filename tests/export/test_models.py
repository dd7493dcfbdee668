"""Models and ONNX's own operator tests leave as ONNX and still compute what the original does in ONNX Runtime."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases

from examples.models import BUILDERS
from tensoropt.errors import ModelError
from tensoropt.export import export_onnx
from tensoropt.frontend import load_program
from tests.export.test_random_expressions import run_model

SMALL = ("srcnn", "fsrcnn", "infogan", "csrnet", "light_squeezenet")
LARGE = ("gcn", "light_shufflenet", "light_densenet121", "light_inception_v1", "longformer_chunked")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    # every tenth of some two thousand, without those that draw random numbers
    CASES = [case for case in collect_testcases(None) if case.model is not None and "training" not in case.name][::10]


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_models(name: str) -> None:
    model = BUILDERS[name](1)
    program = load_program(model).program
    exported = export_onnx(program)
    onnx.checker.check_model(exported, full_check=True)
    random = np.random.default_rng(0)
    feeds: dict[str, Any] = {
        found.name: random.standard_normal([int(extent) for extent in found.shape]).astype(found.dtype.numpy)
        for found in program.inputs
    }
    for result, expected in zip(run_model(exported, feeds), run_model(model, feeds), strict=True):
        assert result.shape == expected.shape
        assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_operators(case: Any) -> None:
    try:
        program = load_program(case.model).program
    except ModelError:
        pytest.skip("not a model that is compiled")
    exported = export_onnx(program)
    onnx.checker.check_model(exported, full_check=True)
    for inputs, _ in case.data_sets:
        feeds = {value.name: np.asarray(array) for value, array in zip(case.model.graph.input, inputs, strict=False)}
        try:
            expected = run_model(case.model, feeds)
        except Exception as error:  # ONNX Runtime has a dozen types of its own for this
            pytest.skip(f"ONNX Runtime does not run the original: {error}")
        names = {value.name for value in exported.graph.input}
        for result, wanted in zip(
            run_model(exported, {k: v for k, v in feeds.items() if k in names}), expected, strict=True
        ):
            assert result.dtype == wanted.dtype
            np.testing.assert_allclose(
                result.astype(np.float64),
                wanted.astype(np.float64),
                rtol=1e-4 if wanted.dtype != np.float16 else 5e-3,
                atol=1e-4,
            )
