"""What the model sees of a variant: numbers for every kernel and every target, without anything compiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.lower import device
from codegen.lower.kernel import lower
from codegen.schedules.context import Offer
from codegen.targets.cpu import CpuTarget, host_target
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from codegen.tune.learned.features import NAMES, described
from tensoropt.ir.expression import Scope, Tensor
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.strategies.compilers import OPENCL
from tests.strategies.cut_kernels import cut_kernels

CPU = host_target(2)
TARGETS: list[CpuTarget | GpuTarget] = [
    CPU,
    replace(CPU, threads=7, vector_bits=128, registers=16),
    OPENCL,
    NAMED["h200"],
    NAMED["t4"],
]


def offers_of(scope: Scope, constants: frozenset[str], target: CpuTarget | GpuTarget) -> tuple[Offer, ...]:
    output = Tensor("out", scope.type)
    if isinstance(target, CpuTarget):
        return lower(output, scope, target, constants).offers
    return device.lower(output, scope, target, constants).offers


@given(kernel=cut_kernels(), target=st.sampled_from(TARGETS))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_variant_is_described_by_finite_numbers(
    kernel: tuple[Scope, frozenset[str]], target: CpuTarget | GpuTarget
) -> None:
    scope, constants = kernel
    offers = offers_of(scope, constants, target)
    found = described(offers, target)
    if found is None:
        assert not offers
        return
    kind, rows = found
    assert any(offer.kind == kind and len(offer.cuts) == len(rows) for offer in offers)
    assert rows.shape[1] == len(NAMES)
    assert not np.isinf(rows).any()
    absent = np.isnan(rows)
    assert (absent.all(0) == absent.any(0)).all(), "a number that one variant has, all have"
    assert rows[0, NAMES.index("place")] <= rows[-1, NAMES.index("place")]


def test_cuts_that_differ_are_told_apart() -> None:
    scope, _ = product_of((96, 160, 64), 2, (False, True))
    for target in TARGETS:
        found = described(offers_of(scope, frozenset(), target), target)
        assert found is not None
        _, rows = found
        schedule = rows[:, NAMES.index("tile_rows") :]
        different = {row.tobytes() for row in np.nan_to_num(schedule)}
        assert len(different) > 0.9 * len(rows)


def test_targets_are_told_apart() -> None:
    scope, _ = product_of((96, 160, 64), 2, (False, True))
    seen = set()
    for target in TARGETS:
        found = described(offers_of(scope, frozenset(), target), target)
        assert found is not None
        seen.add(np.nan_to_num(found[1][0, : NAMES.index("kind")]).tobytes())
    assert len(seen) == len(TARGETS)


def test_a_kernel_without_variants_has_no_description() -> None:
    assert described((), CPU) is None
