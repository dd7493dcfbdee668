"""The machine is described by what can be known of it, without what is not installed."""

from __future__ import annotations

import pytest

from tensoropt import machine


def test_the_description_names_the_versions_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.DISTRIBUTIONS, "torch", "a-distribution-that-is-not-there")
    found = machine.describe()
    assert {"processor", "cores", "system", "python", "tvm", "onnxruntime"} <= found.keys()
    assert "torch" not in found


def test_cores_are_throughput_over_that_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {0: iter([1.0] * 20), 1: iter([2.0] * 20)}  # the second thread is half as fast as the first, alone or not
    monkeypatch.setattr(machine, "_work", lambda seed: next(seconds[seed]))
    assert machine.whole_cores(2) == 1.0
