"""The libraries called directly compute the operators: compared with ONNX Runtime, on the processor."""

from __future__ import annotations

import numpy as np
import pytest

from examples.gpu.operators import SMALL, Convolution, Operator
from examples.gpu.plain_tvm import weights_of
from tensoropt.check import random_feeds
from tests.strategies.small_models import expected, program_of

torch = pytest.importorskip("torch")

FURTHER = (
    Convolution(2, 3, 4, 9, 5, 2),
    Convolution(1, 3, 4, 6, 3, 0),
    Convolution(2, 4, 3, 5, 3, 0, 2, transposed=True),
)


@pytest.mark.parametrize("operator", [*SMALL.values(), *FURTHER])
def test_every_call_gives_the_operator(operator: Operator) -> None:
    from examples.gpu.direct import direct_calls
    from examples.gpu.torch_runs import on_host, placed

    found = operator.model("f32")
    feeds = random_feeds(program_of(found).inputs, 0)
    (wanted,) = expected(found, feeds)
    tensors, weights = (
        {name: placed(array, "cpu") for name, array in group.items()} for group in (feeds, weights_of(found))
    )
    calls = direct_calls(operator, tensors, weights, "cpu")
    assert calls
    for name, make in calls.items():
        result = on_host(make()())
        assert result.shape == wanted.shape, name
        np.testing.assert_allclose(result, wanted, atol=2e-5, err_msg=name)


def test_bfloat16_goes_there_and_back() -> None:
    import ml_dtypes

    from examples.gpu.torch_runs import on_host, placed

    array = np.array([1.0, -2.5, 3e38], ml_dtypes.bfloat16)
    tensor = placed(array, "cpu")
    assert tensor.dtype is torch.bfloat16
    np.testing.assert_array_equal(on_host(tensor), array.astype(np.float32))


def test_peaks_are_rates() -> None:
    from examples.gpu.peaks import copy_rate, product_peak

    assert product_peak("f32", "cpu") > 1e6
    assert copy_rate("cpu") > 1e6
