"""Selection: everything that is found is recorded with its reason, and the outcome depends on nothing but its inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from passes.derive.candidate import SearchReport
from passes.derive.tasks import task
from passes.derive.tasks.cache import DeriveCache
from passes.derive.tasks.task import Found
from passes.select import Select
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.expression import Scope, Tensor, replace_sources, tensors
from tensoropt.ir.printer import format_program
from tensoropt.ir.program import Compute, Program
from tensoropt.pass_manager import Context
from tests.strategies.expressions import tensor
from tests.strategies.networks import FixedCosts, pointwise
from tests.strategies.operators import convolution, transposed_convolution

ROOT = Path(__file__).resolve().parents[2]


class Preferring(FixedCosts):
    """Rewritten regions cost less the more kernels they have; the original costs a second."""

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        rewritten = [KernelCost(0.5 / len(alternative.kernels)) for alternative in alternatives[1:]]
        return [KernelCost(1.0), *rewritten]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def layer(number: int, scope: Scope) -> tuple[Compute, Compute, Tensor]:
    """The scope with tensors of its own, an activation after it, and its weights."""
    data, weights = tensors(scope)
    renamed: dict[Tensor | Scope, Tensor | Scope] = {
        data: Tensor(f"x{number}", data.type),
        weights: Tensor(f"w{number}", weights.type),
    }
    core = Compute(Tensor(f"s{number}", scope.type), replace_sources(scope, renamed), (f"layer {number}",))
    activated = pointwise(tensor(f"y{number}", *map(int, scope.type.shape)), "relu", core.output)
    return core, activated, Tensor(f"w{number}", weights.type)


def network() -> Program:
    """Three layers side by side, the last one equal to the first."""
    up = transposed_convolution(1, 16, 8, 12, 4, 2, 1)
    layers = [layer(number, scope) for number, scope in enumerate((up, convolution(1, 8, 7, 6, (3, 3)), up))]
    statements = [statement for core, activated, _ in layers for statement in (core, activated)]
    constants = {weights.name: np.ones(tuple(map(int, weights.type.shape)), np.float32) for _, _, weights in layers}
    inputs = [tensor for core, _, _ in layers for tensor in core.inputs if tensor.name not in constants]
    return Program("net", tuple(inputs), tuple(made.output for _, made, _ in layers), constants, tuple(statements))


def selected(workers: int = 1, program: Program | None = None) -> tuple[str, Context]:
    context = Context(Preferring(), workers=workers)
    return format_program(Select().run(program or network(), context)), context


def test_everything_found_is_recorded_with_its_reason() -> None:
    text, context = selected()
    cache = DeriveCache()
    for core in [statement for statement in network().statements if statement.origin[0].startswith("layer")]:
        assert isinstance(core, Compute)
        candidates = cache.derive(core, network().constants)
        report = cache.report(core, network().constants)
        assert report is not None
        found = [entry for entry in context.derivations if entry["value"] == core.output.name]
        assert len(found) == len(candidates) + len(report.passed_over)
        assert len(found) > 3
        labels = {candidate.label for candidate in candidates}
        kept = [entry for entry in found if entry["kept"]]
        assert len(kept) == 1
        assert kept[0]["pattern"] in labels
        assert f"{core.output.name}/" in text
        for entry in found:
            assert entry["node"] == core.origin[0]
            assert entry["chain"]
            assert entry["estimated_seconds"] > 0
            assert entry["why"]
            assert (entry["milliseconds"] is not None) == (entry["cost_source"] == "measured")
            checked = entry["pattern"] in labels
            assert (entry["domain"] is not None) == (entry["certificate"] is not None) == checked
        region = next(entry for entry in context.regions if entry["value"] == core.output.name)
        assert region["kept"] == kept[0]["pattern"]
        assert context.searches[region["search"]]["visited"] == report.visited
    assert context.search["statements"] == 3
    assert context.search["distinct"] == 2
    assert len(context.searches) == 2
    json.dumps([context.derivations, context.regions, context.searches, context.search], allow_nan=False)


def test_what_time_cut_short_stays_as_written_and_says_so() -> None:
    context = Context(Preferring(), time_limit=1e-9, started=time.monotonic() - 1.0)
    program = network()
    assert Select().run(program, context) is program
    assert {entry["kept"] for entry in context.derivations} <= {False}
    assert [region["kept"] for region in context.regions] == [None] * 3
    assert all("time limit" in region["why"] for region in context.regions)
    assert {search["truncated"] for search in context.searches} == {"time"}


def test_a_search_that_failed_costs_its_own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = task.Task.solve

    def failing(self: task.Task, deadline: float | None = None) -> Found:
        if len(self.compute.expression.reduction) == 3 and self.compute.output.type.elements == 6 * 49:
            return Found((), SearchReport(failure="its process died of SIGKILL"))
        return solve(self, deadline)

    monkeypatch.setattr(task.Task, "solve", failing)
    text, context = selected()
    assert [region["kept"] is not None for region in context.regions] == [True, False, True]
    assert "its process died of SIGKILL" in context.regions[1]["why"]
    assert "%s1/" not in text


def test_nothing_is_sought_where_all_rules_are_excluded() -> None:
    context = Context(Preferring(), frozenset({"all"}))
    program = network()
    assert Select().run(program, context) is program
    assert (context.derivations, context.regions, context.searches) == ([], [], [])


def test_the_program_does_not_depend_on_what_is_stored_nor_on_who_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = selected()
    again, context = selected()
    assert context.search["from_disk"] == 2
    assert again == first
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", os.environ["TENSOROPT_CACHE_DIR"] + "2")
    monkeypatch.setattr("passes.derive.tasks.cache._SERIAL_SECONDS", 0.0)
    parallel, context = selected(workers=2)
    assert context.search["workers"] == 2
    assert parallel == first


SELECTED = """
from tests.passes.test_select import selected
print(selected()[0])
"""


def test_the_program_is_the_same_in_every_process(tmp_path: Path) -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-c", SELECTED],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONHASHSEED": seed,
                "TENSOROPT_CACHE_DIR": str(tmp_path / seed),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout.rstrip("\n")
        for seed in ("1", "2")
    }
    assert texts == {selected()[0].rstrip("\n")}
