"""The program of peaks compiles here, does what it says to memory, and gives figures."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from examples import peaks


def test_peaks_are_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "ROUNDS", 1)
    assert peaks.multiply_add_peak(1) > 0
    assert peaks.moving_seconds(1 << 16, 1 << 16, 2) > 0
    assert peaks.moving_seconds(1 << 16, 0, 1) > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_every_byte_is_read_and_written(threads: int) -> None:
    count = 1 << 12
    source, target = (np.frombuffer(peaks._aligned(4 * count), np.float32) for _ in range(2))
    source[:] = 1.0
    target[:] = -1.0
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (source, target)]
    size = ctypes.c_size_t(4 * count)
    lane = peaks._library().move_on(threads, pointers[0], size, pointers[1], size)
    assert 0 < lane <= count
    assert (target >= 0).all()
