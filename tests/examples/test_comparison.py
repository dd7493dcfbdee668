"""A comparison times what it says, on inputs that both sides get, and sees a wrong result."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from examples import comparison
from examples.comparison import Feeds, Run, against_onnxruntime, difference, family
from examples.models import BUILDERS


def stand_in(model: onnx.ModelProto, threads: int, *, rewriting: bool) -> tuple[Run, float]:
    """In place of our compiler: ONNX Runtime, whose result is doubled."""
    run = comparison.onnxruntime(model, threads)

    def doubled(feeds: Feeds) -> Feeds:
        return {name: 2 * value for name, value in run(feeds).items()}

    return doubled, 1.5


def test_comparison_reports_series_and_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "compiled", stand_in)
    row = against_onnxruntime("infogan", 1, 5)
    assert {len(series.blocks) for series in (row.ours, row.theirs, row.again)} == {5}
    assert row.error == pytest.approx(1.0)
    assert row.compile_seconds == 1.5
    assert row.ratio == row.ours.median / row.theirs.median
    assert row.control == row.ours.median / row.again.median


def test_inputs_are_the_same_each_time() -> None:
    model = BUILDERS["fsrcnn"](1)
    first, second = comparison.random_feeds(model), comparison.random_feeds(model)
    assert first.keys() == second.keys() == {"small"}
    assert np.array_equal(first["small"], second["small"])


def test_longformer_has_two_formulations() -> None:
    both = ("longformer_gathered", "longformer_chunked")
    assert family("longformer_gathered") == family("longformer_chunked") == both
    assert family("gcn") == ("gcn",)


def test_difference_is_a_share_of_the_largest_value() -> None:
    reference = np.array([1.0, -4.0])
    assert difference({"y": np.array([1.0, -3.5]), "z": reference}, {"y": reference, "z": reference}) == 0.125
