"""``tensoropt plan``: graphs and models, the figures of the contract, the picture, and status 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tensoropt.cli import main
from tensoropt.plan_types import Step
from tensoropt.problem_files import as_document
from tests.passes.plan.problems import mirrored

CHAIN = mirrored(10)


def graph(folder: Path) -> str:
    path = folder / "graph.json"
    path.write_text(json.dumps(as_document(CHAIN)))
    return str(path)


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = main(["plan", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out.splitlines()[0])


def check_by_hand(found: dict[str, Any], transfer: int = 0) -> None:
    """What anyone can check with the JSON alone: order, overlaps, the arena, and the duration."""
    steps = {step.name: step for step in CHAIN.steps}
    fetches = {f"fetch {step.name}": Step("", transfer, (), step.writes) for step in CHAIN.steps}
    copies = len(fetches.keys() & set(found["sequence"]))
    steps |= fetches
    pieces: list[list[int]] = []
    current: dict[int, int] = {}
    for position, (name, offset) in enumerate(zip(found["sequence"], found["offsets"], strict=True)):
        for value in steps[name].reads:
            pieces[current[value]][1] = position
        (value,) = steps[name].writes
        current[value] = len(pieces)
        pieces.append([position, position, offset, CHAIN.values[value].bytes])
    for index, (_, last, offset, size) in enumerate(pieces):
        assert offset + size <= found["arena_bytes"]
        for other_first, _, other, other_size in pieces[index + 1 :]:
            assert other_first > last or offset + size <= other or other + other_size <= offset
    total = transfer * copies + sum(steps[name].duration for name in found["sequence"])
    assert found["duration_increase_percent"] == pytest.approx(100 * (total / CHAIN.duration - 1), abs=1e-4)


def test_a_graph_within_its_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.svg"
    status, found = planned(
        capsys, graph(tmp_path), "--memory-budget", "60%", "--time-limit", "5", "--plot", str(picture), "--threads", "1"
    )
    assert status == 0
    assert found["status"] in ("optimal", "feasible")
    assert (
        found["peak_bytes"] <= found["arena_bytes"] <= found["budget_bytes"] == int(0.6 * found["peak_bytes_baseline"])
    )
    assert found["recomputed"] == len(found["sequence"]) - 20 > 0
    assert 0 <= found["lower_bound_percent"] <= found["duration_increase_percent"]
    check_by_hand(found)
    rectangles = ElementTree.parse(picture).getroot().findall("{http://www.w3.org/2000/svg}rect")
    assert len(rectangles) == 1 + len(found["sequence"])


def test_values_are_fetched_where_that_takes_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.svg"
    arguments = [graph(tmp_path), "--memory-budget", "60%", "--time-limit", "5", "--threads", "1"]
    _, without = planned(capsys, *arguments)
    assert without["fetched"] == 0
    # Every value has 8 bytes, and no step takes less than two units: a fetch takes one, and the copy to the host another.
    status, found = planned(capsys, *arguments, "--paging", "8", "--plot", str(picture))
    assert status == 0
    assert found["arena_bytes"] <= found["budget_bytes"]
    assert found["fetched"] > 0
    assert found["fetched"] + found["recomputed"] == len(found["sequence"]) - 20
    assert found["lower_bound_percent"] <= found["duration_increase_percent"] < without["duration_increase_percent"]
    check_by_hand(found, transfer=1)
    assert "fetched from the host" in picture.read_text()
    assert main(["plan", *arguments, "--paging", "8"]) == 0
    assert "fetches from the host" in capsys.readouterr().err
    # A rate so low that nothing is worth fetching changes nothing.
    _, slow = planned(capsys, *arguments, "--paging", "0.001")
    assert slow["fetched"] == 0
    assert slow["duration_increase_percent"] == without["duration_increase_percent"]


def test_no_plan_is_status_3_with_the_smallest_budget_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["plan", graph(tmp_path), "--memory-budget", "10", "--time-limit", "2"])
    message = capsys.readouterr().err
    assert status == 3
    assert "no plan within 10 bytes (infeasible" in message
    assert "is the smallest budget that is known to fit" in message
    status, found = planned(capsys, graph(tmp_path), "--memory-budget", "10", "--time-limit", "2")
    assert (status, found["status"], found["sequence"]) == (3, "infeasible", None)
    status, _ = planned(
        capsys, graph(tmp_path), "--memory-budget", str(found["smallest_known_bytes"]), "--time-limit", "5"
    )
    assert status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory-budget", "lots"], "neither a number of bytes"),
        (["--memory-budget", "50%", "--memory-model", "flat"], "packed or live"),
        (["--memory-budget", "50%", "--order", "any"], "free or input"),
        (["--memory-budget", "50%", "--time-limit", "0"], "time limit"),
        (["--memory-budget", "50%", "--paging", "25GB/s"], "a number of bytes for each unit"),
        (["--memory-budget", "50%", "--plot", "/nowhere/at/all.svg", "--time-limit", "1"], "/nowhere/at/all.svg"),
    ],
)
def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["plan", graph(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_model_is_planned_by_its_kernels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    weights = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["d"]),
        helper.make_node("Add", ["d", "a"], ["y"]),
    ]
    made = helper.make_graph(
        nodes, "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [128, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [128, 64])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([128, 64]), "shape")],
    )  # fmt: skip
    path = tmp_path / "residual.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]), path)
    status, found = planned(capsys, str(path), "--memory-budget", "100%", "--time-limit", "5")
    assert status == 0
    assert found["status"] == "optimal"
    assert found["steps"] == 3
    assert found["peak_bytes_baseline"] == 3 * 128 * 64 * 4
    assert planned(capsys, str(path), "--memory-budget", "50%", "--time-limit", "2")[0] == 3
    assert planned(capsys, str(path), "--memory-budget", "100%", "--paging", "target")[0] == 0
    assert main(["plan", str(path), "--memory-budget", "100%", "--paging", "25"]) == 2
    assert "a rate such as 25GB/s" in capsys.readouterr().err
