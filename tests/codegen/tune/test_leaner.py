"""Kernels with less scratch memory: what is found needs as little as it says, and is measured once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen.build import lowered, workspaces_of
from codegen.lower.kernel import lower
from codegen.targets.cpu import host_target
from codegen.tune import leaner
from codegen.tune.database import Database
from codegen.tune.kernels import numbered_kernel
from codegen.tune.leaner import LeanerKernels
from codegen.tune.records import Records
from codegen.tune.session import Session
from codegen.tune.space import TEMPLATES, variants
from tensoropt.ir.program import Compute
from tensoropt.quiet import Quiet
from tests.strategies.networks import convolution, program, random_array, tensor

IMAGE, KERNEL, OUT = tensor("x", 1, 16, 15, 15), tensor("k", 40, 16, 3, 3), tensor("y", 1, 40, 15, 15)
NETWORK = program([convolution(OUT, IMAGE, KERNEL, 1)], [IMAGE], [OUT], k=random_array(KERNEL))
TARGET = host_target(2)
(STATEMENT,) = (one for one in NETWORK.statements if isinstance(one, Compute))


def sizes() -> list[int]:
    """The scratch memory of every variant."""
    kernel, constants = numbered_kernel(STATEMENT, NETWORK)
    return [
        lower(kernel.output, kernel.expression, TARGET, constants, variant.parameters or None).workspace_bytes
        for variant in variants(kernel, constants, TARGET, TEMPLATES)
    ]


def test_as_little_as_was_asked_for_or_the_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Session] = []

    def session(*arguments: object, **options: object) -> Session:
        started.append(Session(*arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    monkeypatch.setattr(leaner, "Session", session)
    now, least = sizes()[0], min(sizes())
    assert least < now
    with Database(tmp_path / "t") as database:
        kernels = LeanerKernels(TARGET, Records(database, TARGET), Quiet())
        most = int(np.median([size for size in sizes() if size < now]))
        found = kernels.within(NETWORK, STATEMENT, {}, most)
        assert found is not None
        assert found.workspace <= most
        assert found.seconds >= 0
        steps = lowered(NETWORK, (), TARGET, variants={"y": found.parameters})
        assert workspaces_of(steps).get("y", 0) == found.workspace
        assert sum(one.worker.starts for one in started) == 1
        again = LeanerKernels(TARGET, Records(database, TARGET), Quiet())
        assert again.within(NETWORK, STATEMENT, {}, most) == found
        assert sum(one.worker.starts for one in started) == 1, "what is known is not measured"
        smallest = again.within(NETWORK, STATEMENT, found.parameters, -1)
        assert smallest is not None
        assert smallest.workspace == least


def test_nothing_is_measured_after_the_deadline(tmp_path: Path) -> None:
    with Database(tmp_path / "t") as database:
        kernels = LeanerKernels(TARGET, Records(database, TARGET), Quiet(), deadline=0.0)
        assert kernels.within(NETWORK, STATEMENT, {}, 0) is None


def test_equal_kernels_with_different_variants_are_two() -> None:
    middle, other = tensor("m", 1, 16, 15, 15), tensor("k2", 16, 16, 3, 3)
    last = tensor("z", 1, 16, 15, 15)
    network = program(
        [convolution(middle, IMAGE, other, 1), convolution(last, middle, other, 1)],
        [IMAGE],
        [last],
        k2=random_array(other),
    )
    known: dict[object, object] = {}
    alike = lowered(network, (), TARGET, known=known)  # type: ignore[arg-type]
    assert alike[0].shared is alike[1].shared
    apart = lowered(network, (), TARGET, variants={"z": {"contraction": 1}}, known=known)  # type: ignore[arg-type]
    assert apart[0].shared is alike[0].shared
    assert apart[1].shared is not apart[0].shared
    assert apart[1].shared.name != apart[0].shared.name
