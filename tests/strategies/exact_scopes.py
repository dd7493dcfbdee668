"""Expressions with small integers on which they round nothing, so that any order of sums gives the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tensoropt.ir.expression import Scope, Tensor, tensors
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.codegen.lower.test_random_kernels import is_exact, small_integers
from tests.strategies.programs import scopes
from tests.strategies.random_scopes import random_scope

Case = tuple[Scope, dict[str, Array]]
"""An expression, and values of its tensors by name."""


@st.composite
def exact_expressions(draw: st.DrawFn, dtypes: Sequence[str]) -> Case:
    """Random expressions of tensors of these types."""
    extents = st.lists(st.sampled_from([1, 2, 3, 5, 17]).map(Extent), min_size=1, max_size=3).map(tuple)
    kinds = [DataType(dtype) for dtype in dtypes]
    sources = [
        Tensor(f"x{number}", TensorType(kind, draw(extents))) for number, kind in enumerate((*kinds, *kinds[:1]))
    ]
    return _exact(draw(scopes(sources, dtype=draw(st.sampled_from(kinds)))), sources)


def exact_sums(seed: int) -> Case:
    """Contractions, windows and towers of them."""
    scope = random_scope(Random(seed))
    return _exact(scope, tensors(scope))


def _exact(scope: Scope, sources: Sequence[Tensor]) -> Case:
    values = {source.name: small_integers(source, number) for number, source in enumerate(sources)}
    with np.errstate(all="ignore"):
        assume(is_exact(scope, values))
    return scope, values
