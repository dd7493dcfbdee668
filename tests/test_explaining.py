"""``inspect --why``: chains in the rules' formulas, what checked them, and why something was not taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from passes.derive.rules import RULES_BY_NAME
from tensoropt.explaining import Trace, brief, explain, formula
from tests.passes.test_select import selected


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``trace.json`` would hold of a network of three layers."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    context = selected()[1]
    patch.undo()
    data = {"derivations": context.derivations, "regions": context.regions, "searches": context.searches}
    found: dict[str, Any] = json.loads(json.dumps(data))
    return found


def why(name: str, trace: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    lines, data = explain(name, Trace.from_json(trace).of(name), RULES_BY_NAME)
    return "\n".join(lines), data


@pytest.mark.parametrize("name", ["layer 0", "s0", "layer 1", "layer 2"])
def test_the_chain_is_shown_step_by_step(name: str, trace: dict[str, Any]) -> None:
    text, data = why(name, trace)
    kept = next(entry for entry in trace["derivations"] if entry["kept"] and name in (entry["node"], entry["value"]))
    assert f"rewritten as {brief(kept['pattern'])}" in text
    for step in kept["derivation"]["steps"]:
        assert step["rule"] in text
    main = [step["rule"] for step in kept["derivation"]["steps"] if step["rule"] not in ("merge", "tighten")]
    for rule in main:
        assert text.count(formula(RULES_BY_NAME[rule])[0]) == 1, "the first time only"
    shown = next(entry for entry in data["derivations"] if entry["kept"])
    assert len(shown["states"]) == len(kept["derivation"]["steps"]) + 1
    for line in (*shown["states"][0].splitlines(), *shown["states"][-1].splitlines()):
        assert line in text
    assert kept["certificate"]["domain"] in text
    assert f"{kept['certificate']['real_points']} points" in text
    assert "@" not in text


def test_what_was_not_taken_has_its_reason(trace: dict[str, Any]) -> None:
    text, data = why("layer 0", trace)
    others = [entry for entry in data["derivations"] if not entry["kept"]]
    assert others
    listed = [entry for entry in others if f"{brief(entry['pattern'])}: {entry['why']}" in text]
    assert len(listed) == min(6, len(others))
    assert (f"and {len(others) - 6} more" in text) == (len(others) > 6)
    assert "refused most often" in text
    assert [entry["node"] for entry in data["regions"]] == ["layer 0"]
    assert data["searches"][0]["rules"]


@pytest.mark.parametrize("kept", [True, False])
def test_attention_tells_why_it_is_one_launch_or_is_not(kept: bool) -> None:
    nodes = ["scores", "softmax", "product"]
    join = {
        "node": "product", "value": "y", "nodes": nodes, "statements": 3, "kept": kept,
        "why": "0.010 ms against 0.030 ms with the scores stored (predicted: 1 launch, against 3 launches)",
    }  # fmt: skip
    for name in (*nodes, "y"):
        text, data = why(name, {"joins": [join]})
        assert text.splitlines()[0] == f"{name}, of attention that computes y"
        assert (
            f"{'runs in one launch' if kept else 'stores its scores'}, where 3 statements could be one: 0.010 ms"
            in text
        )
        assert data["joins"] == [join]
    assert why("other", {"joins": [join]})[0] == ""


def test_a_node_without_a_derivation_tells_the_nearest_miss() -> None:
    region = {"node": "n", "value": "v", "kept": None, "original_milliseconds": None, "search": 0}
    report = {
        "visited": 3,
        "goals": 0,
        "rules": {"merge": {"tried": 4, "applied": 1, "refused": {"no": 1, "reads outside": 2}, "seconds": 0.0}},
        "rejected": ["differs in 3 of 4 elements"],
        "truncated": "states",
        "nearest": "i and j stand in one index",
        "seconds": 0.1,
        "failure": None,
    }
    text, data = why("n", {"derivations": [], "regions": [{**region, "why": "nothing"}], "searches": [report]})
    assert "runs as the model says: nothing" in text
    assert "nearest miss: i and j stand in one index" in text
    assert "check failed: differs in 3 of 4 elements" in text
    assert text.index("merge, 2 times: reads outside") < text.index("merge, 1 times: no")
    assert data["derivations"] == []


def test_a_chain_of_other_rules_is_told_without_expressions(trace: dict[str, Any]) -> None:
    lines, data = explain("layer 0", Trace.from_json(trace).of("layer 0"), {})
    assert "does not replay" in "\n".join(lines)
    assert all(entry["states"] is None for entry in data["derivations"])


def test_traces_of_earlier_versions_are_read(trace: dict[str, Any]) -> None:
    old = [{key: value for key, value in entry.items() if key != "reads"} for entry in trace["derivations"]]
    text, _ = why("layer 0", {"derivations": old})
    assert "rewritten as" in text


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("matmul(batch=1, m=4, n=2, k=3, left=km, right=kn)", "matmul(m=4, n=2, k=3, left=km, right=kn)"),
        ("batch_matmul(batch=4, m=1, n=2, k=3)", "batch_matmul(batch=4, m=1, n=2, k=3)"),
        (
            "convolution(images=1, filters=12, channels=1, kernel=(2, 3), strides=(1, 1), dilations=(1, 1), pads_begin=(0, 1), "
            "pads_end=(0, 0), groups=1)",
            "convolution(filters=12, channels=1, kernel=(2, 3), pads_begin=(0, 1))",
        ),
        (
            "convolution(images=1, filters=1, channels=2, kernel=(2,), strides=(1,), dilations=(2,), pads_begin=(0,), "
            "pads_end=(0,), groups=12)",
            "convolution(filters=1, channels=2, kernel=(2,), dilations=(2,), groups=12)",
        ),
    ],
)
def test_parameters_that_say_nothing_are_left_out(pattern: str, expected: str) -> None:
    assert brief(pattern) == expected


def test_every_node_of_a_combination_tells_of_it() -> None:
    entry = {"node": "Conv_0", "nodes": ["Conv_0", "BatchNormalization_1"], "value": "t"}
    trace = Trace((entry, {"node": "Conv_4", "value": "v"}), (), ())
    for name in ("Conv_0", "BatchNormalization_1", "t"):
        assert trace.of(name).derivations == (entry,)
