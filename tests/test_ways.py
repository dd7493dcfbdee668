"""The ways toward less memory, and the one that came to the fewest bytes: kept, and tried where it is within a budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.targets.cpu import host_target
from codegen.tune.database import Database
from codegen.tune.records import Records
from codegen.tune.tuned import Tuning
from tensoropt.api.stated import Keeping, Kernels
from tensoropt.api.ways import Way, remember, remembered, ways
from tensoropt.ir.program import Program
from tests.codegen.tune.killed_tuning import network


@dataclass
class Known:
    """What ways need to know of the kernels of a program."""

    tuned: Program
    as_written: Program
    records: Records
    differing: tuple[str, ...] = ()
    tuning: Tuning = field(default_factory=Tuning)
    paging: str | None = None


@pytest.fixture
def kernels(tmp_path: Path) -> Kernels:
    program, _ = network()
    other = program.with_statements(program.statements[:1], program.constants)
    known: Any = Known(program, other, Records(Database(tmp_path / "t.sqlite"), host_target(2)), ("a",))
    return cast(Kernels, known)


def test_the_fewest_bytes_are_remembered(kernels: Kernels) -> None:
    first = Way(kernels.tuned, 500, 700, 0.02, Keeping.JOINED)
    fewest = Way(kernels.as_written, 300, 300, inf, Keeping.APART, kernels.differing)
    assert remembered(kernels, 1000) == []
    remember(kernels, first, 800)
    assert remembered(kernels, 1000) == [first]
    remember(kernels, fewest, 600)
    remember(kernels, first, 800)
    assert remembered(kernels, 600) == [fewest]
    assert remembered(kernels, 599) == []


def test_a_way_is_that_of_one_program(kernels: Kernels) -> None:
    remember(kernels, Way(kernels.tuned, 500, 500, inf, Keeping.APART), 800)
    other: Any = Known(kernels.as_written, kernels.as_written, kernels.records)
    paged: Any = Known(kernels.tuned, kernels.as_written, kernels.records, paging="1GB/s")
    assert remembered(other, 1000) == remembered(paged, 1000) == []


def test_what_came_to_the_fewest_bytes_is_tried_after_what_is_cheap(kernels: Kernels) -> None:
    """A run by it may take much longer than one by a cheap way that fits too."""
    fewest = Way(kernels.as_written, 350, 350, inf, Keeping.APART, kernels.differing)
    remember(kernels, fewest, 600)
    found = ways(1000, 800, kernels, [Keeping.APART], remembered(kernels, 800))
    assert found.index(fewest) == next(number for number, way in enumerate(found) if way.share == inf) > 0
    assert fewest not in ways(1000, 599, kernels, [Keeping.APART], remembered(kernels, 599))


@given(peak=st.integers(1000, 10**9), share=st.integers(1, 100))
def test_ways_do_not_depend_on_the_budget_but_for_where_they_begin(peak: int, share: int) -> None:
    program, _ = network()
    known: Any = Known(program, program, cast(Records, None))
    budget = peak * share // 100
    found = ways(peak, budget, known, [Keeping.JOINED, Keeping.APART])
    every = ways(peak, peak, known, [Keeping.JOINED, Keeping.APART])
    assert len(found) == len(set(map(id, found)))
    assert {way.alone for way in found} <= {way.alone for way in every}
    assert min(way.alone for way in found) == peak * 3 // 10, "the least is always among them"
    dear = [number for number, way in enumerate(found) if way.share == inf]
    assert found[dear[0]].alone == peak * 3 // 10, "and says early whether there is a plan"
    assert all(way.alone <= max(budget, peak * 3 // 10) for way in found)
