"""Problems as files: both spellings of node-link graphs, our own format and back, and what is said of bad ones."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tensoropt.errors import ModelError
from tensoropt.plan_types import Problem
from tensoropt.problem_files import as_document, read_problem
from tests.passes.plan.problems import problems

NUMBERED = {
    "graph": {"order": [2, 0, 1]},
    "nodes": [
        {"name": 0, "out_cost": 5, "duration": 1},
        {"name": 1, "out_cost": 6, "duration": 2},
        {"name": 2, "out_cost": 7, "duration": 3},
    ],
    "links": [{"0": 2, "1": 0}, {"0": 0, "1": 1}],
}
NAMED = {
    "nodes": [
        {"id": 1, "name": "conv", "cost_ram": 4096, "cost_cpu": 7},
        {"id": 0, "name": "pad", "cost_ram": 1024, "cost_cpu": 0, "output": True},
    ],
    "links": [{"source": 0, "target": 1}],
}


def written(folder: Path, document: Any) -> Path:
    path = folder / "graph.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_the_order_of_the_file_and_the_ids(tmp_path: Path) -> None:
    problem = read_problem(written(tmp_path, NUMBERED))
    assert [step.name for step in problem.steps] == ["2", "0", "1"]
    assert [value.bytes for value in problem.values] == [7, 5, 6]
    assert [step.reads for step in problem.steps] == [(), (0,), (1,)]
    problem = read_problem(written(tmp_path, NAMED))
    assert [step.name for step in problem.steps] == ["0", "1"]
    assert [(value.name, value.bytes, value.kept) for value in problem.values] == [
        ("pad", 1024, True),
        ("conv", 4096, False),
    ]
    assert [step.duration for step in problem.steps] == [0, 7]


def test_a_rate_gives_transfers_in_the_finest_unit(tmp_path: Path) -> None:
    problem = read_problem(written(tmp_path, NUMBERED), Fraction(10))
    assert [step.duration for step in problem.steps] == [3_000_000, 1_000_000, 2_000_000]
    assert problem.transfers == (700_000, 500_000, 600_000)
    own = read_problem(written(tmp_path, as_document(read_problem(written(tmp_path, NUMBERED)))), Fraction(10))
    assert own.transfers == (1, 1, 1)


@given(problems(paging=True))
def test_our_own_format_holds_everything(problem: Problem) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        assert read_problem(written(Path(folder), as_document(problem))) == problem


def test_durations_with_decimals_are_millionths(tmp_path: Path) -> None:
    document = json.loads(json.dumps(NAMED))
    document["nodes"][0]["cost_cpu"] = 0.5
    assert [step.duration for step in read_problem(written(tmp_path, document)).steps] == [0, 500_000]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["nodes"][0].pop("out_cost"), "node 0 has no size"),
        (lambda d: d["nodes"][0].pop("duration"), "node 0 has no duration"),
        (lambda d: d["nodes"][0].update(out_cost=-1), "must be a whole number"),
        (lambda d: d["nodes"][0].update(out_cost=1.5), "must be a whole number"),
        (lambda d: d["nodes"][0].update(duration=-2), "negative duration"),
        (lambda d: d["nodes"][0].update(name=1), "two nodes have the id 1"),
        (lambda d: d["links"].append({"0": 1, "1": 9}), "names a node that there is not"),
        (lambda d: d["links"].append({"0": 1, "1": 2}), "the steps form a cycle"),
        (lambda d: d["graph"].update(order=[0, 1]), "graph.order"),
        (lambda d: d["graph"].update(order=5), "graph.order"),
        (lambda d: d["graph"].update(order=[[0], 1, 2]), "graph.order"),
        (lambda d: d.update(links=5), "the link 5 names a node"),
        (lambda d: d["links"].append({"0": [1], "1": 0}), "names a node that there is not"),
        (lambda d: d.pop("nodes"), "neither a node-link graph"),
    ],
)
def test_a_bad_graph_is_told_in_a_sentence(tmp_path: Path, change: Any, message: str) -> None:
    document = json.loads(json.dumps(NUMBERED))
    change(document)
    with pytest.raises(ModelError, match=message):
        read_problem(written(tmp_path, document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alignment": "x"}, "alignment is 'x'"),
        ({"alignment": 0}, "alignment is 0"),
        ({"aliases": [1]}, "aliases"),
        ({"steps": [{"name": "s", "duration": 1, "reads": [], "writes": ["a"], "transfer": -1}]}, "transfer of node 's'"),
        ({"steps": [{"name": "s", "duration": 1, "reads": [], "writes": ["a"]},
                    {"name": "t", "duration": 1, "reads": ["a"], "writes": [], "transfer": 1}]}, "transfer time and others"),
    ],
)  # fmt: skip
def test_a_bad_problem_is_told_in_a_sentence(tmp_path: Path, change: Any, message: str) -> None:
    steps = [{"name": "s", "duration": 1, "reads": [], "writes": ["a"]}]
    document = {"format": "tensoropt-problem", "version": 1, "values": [{"name": "a", "bytes": 1}], "steps": steps}
    assert read_problem(written(tmp_path, document)).duration == 1
    with pytest.raises(ModelError, match=message):
        read_problem(written(tmp_path, document | change))


def test_what_is_no_json_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a JSON file"):
        read_problem(written(tmp_path, "{"))
    with pytest.raises(ModelError, match="not a JSON file"):
        read_problem(written(tmp_path, '{"nodes": [1' + 5000 * "0" + "]}"))
    with pytest.raises(ModelError, match="No such file"):
        read_problem(tmp_path / "nowhere.json")
    with pytest.raises(ModelError, match="version 9"):
        read_problem(written(tmp_path, {"format": "tensoropt-problem", "version": 9}))
    with pytest.raises(ModelError, match="lacks"):
        read_problem(
            written(tmp_path, {"format": "tensoropt-problem", "version": 1, "values": [{"name": "a"}], "steps": []})
        )
