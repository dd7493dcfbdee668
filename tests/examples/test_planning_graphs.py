"""Generated graphs are valid, the same for a seed, and as large as promised; the script plans, packs and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import planner, planning_graphs
from examples.planning_graphs import GRAPHS, chain_training, random_layered, transformer_training
from passes.plan.trace import trace
from tensoropt.plan_types import Problem
from tensoropt.problem_files import as_document, read_problem

ROW: dict[str, Any] = {
    "steps": 61,
    "budget_bytes": 1000,
    "peak_bytes": 900,
    "arena_bytes": 990,
    "fragmentation_percent": 10.0,
    "lower_bound_percent": 0.5,
    "lower_bound_holds_for": "any order",
    "duration_increase_percent": 1.25,
    "recomputed": 3,
    "fetched": 2,
    "status": "feasible",
    "solve_seconds": 2.25,
    "smallest_known_bytes": 900,
    "history": [{"seconds": 0.5, "percent": 4.0}, {"seconds": 1.5, "percent": 1.25}],
}


def sinks(problem: Problem) -> list[str]:
    """Steps that nobody reads."""
    return [problem.steps[problem.writer[value]].name for value, readers in enumerate(problem.readers) if not readers]


@given(
    steps=st.integers(3, 80),
    seed=st.integers(0, 1000),
    width=st.sampled_from([0.05, 0.3, 2.0]),
    density=st.sampled_from([0.0, 0.2, 1.0]),
)
@settings(max_examples=50)
def test_a_layered_graph_goes_from_one_step_to_one(steps: int, seed: int, width: float, density: float) -> None:
    made = random_layered(steps, seed, width, density=density)
    assert made == random_layered(steps, seed, width, density=density)
    assert made.check() is made
    assert len(made.steps) == steps
    assert sinks(made) == [made.steps[-1].name] == [f"{steps - 1}"]
    assert [step.name for step in made.steps if not step.reads] == ["0"]
    assert all(value.bytes > 0 and value.bytes % 10 == 0 for value in made.values)


def test_seeds_and_parameters_tell_layered_graphs_apart() -> None:
    made = random_layered(200, 1)
    assert made != random_layered(200, 2)
    edges, fewer, without = (
        sum(len(step.reads) for step in problem.steps)
        for problem in (made, random_layered(200, 1, density=0.05), random_layered(200, 1, skips=0.0))
    )
    assert max(fewer, without) < edges
    with pytest.raises(ValueError, match="at least 3 steps, not 2"):
        random_layered(2, 0)


@pytest.mark.parametrize(
    ("name", "edges", "peak"), [("random_layered_500", 2461, 284_439), ("random_layered_1000", 5875, 608_619)]
)
def test_layered_graphs_are_like_the_published_ones(name: str, edges: int, peak: int) -> None:
    """Whose edges and peaks in the order of the input these are."""
    made = GRAPHS[name]()
    assert sum(len(step.reads) for step in made.steps) == pytest.approx(edges, rel=0.15)
    assert trace(made, range(len(made.steps))).peak() == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("layers", [0, 1, 2, 64])
def test_a_transformer_has_fifty_steps_in_each_layer(layers: int) -> None:
    made = transformer_training(layers)
    assert made.check() is made
    assert len(made.steps) == 50 * layers + 8
    assert made == transformer_training(layers)
    gradients = ("weight_gradient", "bias_gradient", "scale_gradient", "table_gradient", "embedding_gradient")
    assert all(name.endswith(gradients) for name in sinks(made))
    assert len(sinks(made)) == 10 * layers + 2
    assert all(step.duration > 0 for step in made.steps)


def test_a_transformer_takes_the_time_of_its_arithmetic() -> None:
    """Six operations for each weight and token, and for scores and what they weigh; the rest is bound by memory."""
    batch, sequence, width, heads, vocabulary, layers = 2, 1024, 4096, 16, 1024, 2
    made = transformer_training(layers, batch, sequence, width, heads, vocabulary)
    tokens = batch * sequence
    weights = 12 * layers * width**2 + vocabulary * width
    operations = 6 * tokens * weights + 3 * layers * 2 * 2 * batch * sequence**2 * width
    least = operations / planning_graphs.OPERATIONS_PER_NANOSECOND
    products = [step for step in made.steps if step.duration > 2_000_000]
    assert sum(step.duration for step in products) == pytest.approx(least, rel=0.1)
    with pytest.raises(ValueError, match="10 does not divide into 3 heads"):
        transformer_training(1, width=10, heads=3)


@pytest.mark.parametrize("layers", [0, 1, 12])
def test_a_chain_keeps_what_its_gradients_read(layers: int) -> None:
    made = chain_training(layers)
    assert made.check() is made
    assert len(made.steps) == 5 * layers + 1
    last = len(made.steps) - 1
    for number in range(layers):
        linear = next(place for place, step in enumerate(made.steps) if step.name == f"linear{number}")
        readers = made.readers[made.steps[linear].writes[0]]
        assert [made.steps[reader].name for reader in readers] == [f"tanh{number}", f"tanh{number}_gradient"]
    assert {made.steps[last].name, *(f"weight{number}_gradient" for number in range(layers))} == set(sinks(made))


def test_graphs_are_written_as_the_planner_reads_them(tmp_path: Path) -> None:
    planning_graphs.main(["chain_12", "gpt_2", "-o", str(tmp_path / "new")])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["chain_12.json", "gpt_2.json"]
    for name in ("chain_12", "gpt_2"):
        assert read_problem(tmp_path / "new" / f"{name}.json") == GRAPHS[name]()


def test_a_row_is_planned_and_told() -> None:
    row = planner.planned("chain_12", 80, "live", "input", None, 2.0)
    peak = trace(GRAPHS["chain_12"](), range(61)).peak()
    assert row["status"] in ("feasible", "optimal")
    assert row["peak_bytes"] <= row["budget_bytes"] == 4 * peak // 5
    assert 0 <= row["lower_bound_percent"] <= row["duration_increase_percent"]
    assert (row["recomputed"] > 0, row["fetched"]) == (True, 0)
    lines = planner.plan_table({"chain": row}).splitlines()
    assert lines[2].startswith(f"| chain | 61 | {row['budget_bytes']:,} | {row['duration_increase_percent']:.3f} |")


def test_both_formulations_find_the_same_small_plan(tmp_path: Path) -> None:
    made = chain_training(3)
    file = tmp_path / "chain.json"
    file.write_text(json.dumps(as_document(made)))
    rows = {name: planner.compared(name, str(file), 90, 10.0) for name in ("published", "tensoropt")}
    assert rows["published"]["history"][-1]["percent"] == rows["tensoropt"]["history"][-1]["percent"] > 0
    assert planner.quality_table(rows).count("\n") == 3


def test_tables_have_a_cell_for_each_title() -> None:
    nothing = {**ROW, "status": "infeasible", "peak_bytes": None, "arena_bytes": None, "history": []}
    nothing |= {"duration_increase_percent": None, "lower_bound_percent": None, "lower_bound_holds_for": None}
    del nothing["fragmentation_percent"], nothing["recomputed"], nothing["fetched"]
    rows: dict[str, dict[str, Any]] = {"a": ROW, "b": nothing, "c": {"failed": "the process died"}}
    lines = planner.plan_table(rows).splitlines()
    assert lines[2] == (
        "| a | 61 | 1,000 | 1.250 | 0.500 | any order | feasible | 3 | 2 | 0.9000 | 0.9900 | 10.00 | 1.5 | 2.2 |"
    )
    assert lines[3] == "| b | 61 | 1,000 |  |  |  | infeasible |  |  |  |  |  |  | 2.2 |"
    assert lines[4].startswith("| c | failed: the process died |")
    quality = planner.quality_table(rows).splitlines()
    assert quality[2] == "| a | 61 | 0.50 | 4.000 | 1.250 | 1.250 | 1.5 | feasible | 0.9000 |"
    assert quality[3] == "| b | 61 |  |  |  |  | 2.2 | infeasible | 0.9000 |"
    for table in (lines, quality):
        assert len({row.count("|") for row in table}) == 1


def test_offsets_are_packed_within_the_capacity_of_their_name(tmp_path: Path) -> None:
    (tmp_path / "offsets").mkdir()
    tight, small = (tmp_path / "offsets" / name for name in ("tight.10.csv", "small.9.csv"))
    for file in (tight, small):
        file.write_text("id,lower,upper,size\n0,0,2,4\n1,0,1,6\n2,1,3,6\n3,2,4,4\n")
    assert planner.read_buffers(tight).live_peak() == 10
    rows = planner.offsets_rows(tmp_path)
    assert rows == {"small, offsets": (str(small),), "tight, offsets": (str(tight),)}
    found = {f"{file.name.split('.')[0]}, offsets": planner.packed(str(file), 5.0) for file in (small, tight)}
    assert (found["tight, offsets"]["status"], found["tight, offsets"]["arena_bytes"]) == ("packed", 10)
    assert (found["small, offsets"]["status"], found["small, offsets"]["arena_bytes"]) == ("impossible", None)
    assert planner.offsets_table(found).splitlines()[3].startswith("| tight, offsets | 4 | 1.0000 | 1.0000 | 1.0000 |")


def test_data_adds_the_published_graphs(tmp_path: Path) -> None:
    generated = list(planner.plan_rows(None))
    assert len(generated) == 4 * (2 + 2 + 1)
    paged = planner.plan_rows(None, "25")
    assert paged["gpt_64, 50 %, packed, free order, paging at 25"] == ("gpt_64", 50, "packed", "free", "25")
    assert len(paged) == len(generated)
    (tmp_path / "remat").mkdir()
    for name in ("rlg1", "resnet50_train"):
        (tmp_path / "remat" / f"{name}.json").touch()
    added = [label for label in planner.plan_rows(tmp_path) if label not in generated]
    assert len(added) == (2 + 4) * 4
    assert "rlg1, 80 %, live, free order" in added
    assert "resnet50_train, 50 %, packed, input order" in added
    assert [label for label in planner.quality_rows(tmp_path) if label.startswith("rlg1, 90 %")] == [
        "rlg1, 90 %, published",
        "rlg1, 90 %, tensoropt",
    ]


def test_a_run_is_written_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, ...]] = []
    answers: list[dict[str, Any] | str] = ["the process died", ROW, ROW]

    def isolated(measure: Any, *arguments: Any) -> dict[str, Any] | str:
        asked.append(arguments)
        return answers.pop(0)

    monkeypatch.setattr(planner, "isolated", isolated)
    file = tmp_path / "rows.json"
    words = ["gpt_64, 50 %, live, input", "gpt_64, 50 %, packed, free", "--time-limit", "7"]
    assert planner.main([*words, "--json", str(file)]) == 1
    assert asked == [("gpt_64", 50, "live", "input", None, 7.0), ("gpt_64", 50, "packed", "free", None, 7.0)]
    assert planner.main([*words, "--resume", str(file)]) == 0
    assert asked[2:] == [("gpt_64", 50, "live", "input", None, 7.0)]
    written = json.loads(file.read_text())["rows"]
    assert set(written) == {"gpt_64, 50 %, live, input order", "gpt_64, 50 %, packed, free order"}
    assert all(row == ROW for row in written.values())
    assert "failed: the process died" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["no such row"], ["--offsets"], ["--offsets", "--quality"]])
def test_wrong_usage_is_told(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        planner.main(arguments)
