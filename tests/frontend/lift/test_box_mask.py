"""Masks of bands become bounds."""

from __future__ import annotations

import numpy as np
import pytest

from tensoropt.frontend.lift.box_mask import fit_box
from tensoropt.ir.index import Index, Iterator


def iterators(*extents: int) -> list[Iterator]:
    return [Iterator(name, extent) for name, extent in zip("ijkl", extents, strict=False)]


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_band_mask(dilation: int) -> None:
    rows, columns = iterators(40, 9)
    position = np.arange(40)[:, None] + dilation * (np.arange(9) - 4)
    bounds = fit_box((position >= 0) & (position < 40), [rows, columns])
    assert bounds is not None
    (bound,) = bounds
    assert bound.index is Index.of(rows) + Index.of(columns) * dilation
    assert (bound.low, bound.high) == (4 * dilation, 39 + 4 * dilation)
