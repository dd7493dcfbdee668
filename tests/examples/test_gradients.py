"""Gradients of a model are compared with PyTorch's in f64, weight by weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples import gradients
from tests.strategies.training import classifier


def test_shares_are_of_the_largest_element_of_each_weight() -> None:
    exact = {"w": np.array([1.0, -4.0]), "v": np.array([2.0]), "nothing": np.array([1e-20])}
    found = {"w": np.array([1.0, -3.0]), "v": np.array([2.0]), "nothing": np.array([1e-9])}
    median, largest = gradients.shares(found, exact)
    assert median == pytest.approx(1e-9 / 4e-6)
    assert largest == 0.25


def test_ours_are_as_exact_as_those_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(gradients, "TRAINED", {"classifier": classifier})
    ours, theirs, _ = gradients.compared("classifier", 3)
    assert ours[1] < 1e-4
    assert theirs[1] < 1e-4
