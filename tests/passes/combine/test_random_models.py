"""Random models of linear algebra keep their outputs when every proposal is taken, measured or not.

``TENSOROPT_CASES=500`` tries that many of each kind.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passes.pipeline import COMBINE, NORMALISE
from tensoropt.ir.interpreter import run_program
from tensoropt.pass_manager import Context, run_passes
from tests.strategies.estimated_costs import PreferChange
from tests.strategies.linear_models import image_models, matrix_models
from tests.strategies.small_models import feeds_of, program_of

CASES = int(os.environ.get("TENSOROPT_CASES", "40"))
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def check(found: onnx.ModelProto) -> int:
    """How many derivations were kept; the outputs are compared in the meaning of programs, which rounds once a statement."""
    context = Context(PreferChange())
    before = run_passes(program_of(found), NORMALISE, context)
    after = run_passes(before, COMBINE, context)
    feeds = feeds_of(before)
    wanted, values = run_program(before, feeds), run_program(after, feeds)
    largest = max(1.0, *(float(np.abs(value).max()) for value in wanted.values() if value.dtype == np.float32))
    for tensor in before.outputs:
        np.testing.assert_allclose(values[tensor.name], wanted[tensor.name], rtol=1e-3, atol=1e-4 * largest)
    return sum(entry["kept"] for entry in context.derivations)


@pytest.mark.parametrize("models", [matrix_models(), image_models()], ids=["matrices", "images"])
def test_outputs_stay(models: st.SearchStrategy[onnx.ModelProto]) -> None:
    kept = 0

    @settings(max_examples=CASES, suppress_health_check=_SLOW, derandomize=CASES <= 40, database=None)
    @given(models)
    def tried(found: onnx.ModelProto) -> None:
        nonlocal kept
        kept += check(found)

    tried()
    assert kept > CASES // 4
