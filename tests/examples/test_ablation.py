"""The ablation says what fired and what it gained, goes on where it stopped, and keeps failures as rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from examples import ablation
from examples.ablation import Ablation, Fired
from tensoropt.timing import Series


def entry(node: str, pattern: str, rules: list[str], kept: bool = True, ratio: float = 2.0) -> dict[str, Any]:
    return {
        "node": node,
        "pattern": pattern,
        "kept": kept,
        "derivation": {"steps": [{"rule": rule} for rule in rules]},
        "original_milliseconds": ratio,
        "milliseconds": 1.0,
    }


ENTRIES = [
    entry("Conv_1", "matmul(m=1, n=2, k=3)", ["drop_units", "stage", "skew_traversal", "merge", "match_matmul"]),
    entry("Conv_2", "matmul(m=4, n=2, k=3)", ["stage", "skew_traversal", "match_matmul"], ratio=4.0),
    entry("Conv_3", "matmul(m=4, n=2, k=3)", ["drop_units", "match_matmul"]),
    entry("Conv_4", "convolution(images=1)", ["split_traversal", "skew_reduction", "match_convolution"], kept=False),
]


def row(name: str, derived: float, written: float) -> Ablation:
    first, second = (Series((value,) * 5, 1) for value in (derived, written))
    fired = ablation.fired(ENTRIES)
    return Ablation(name, first, second, again=first, error=1e-6, cores=2.0, found=4, sought=3, fired=fired)


def test_what_fired_is_told_by_operator_and_family() -> None:
    assert ablation.fired(ENTRIES) == (
        Fired("matmul", ("reindexing",), ("Conv_1", "Conv_2"), (2.0, 4.0)),
        Fired("matmul", ("boundary",), ("Conv_3",), (2.0,)),
    )
    unmeasured = {**ENTRIES[0], "milliseconds": None}
    assert ablation.fired([unmeasured])[0].gains == ()


def test_the_table_holds_failures_too() -> None:
    rows = {"dcgan": ablation.as_json(row("dcgan", 2.0, 3.0)), "srcnn": ablation.as_json("the process died")}
    lines = ablation.table(rows).splitlines()
    assert lines[2].startswith("| dcgan | 2.000 | 3.000 | 1.50 | 1.00 | 2.0 | 1.0e-06 | 3 | 4 | 3 |")
    assert "2 × matmul by reindexing, each 3.00 times; 1 × matmul by boundary" in lines[2]
    assert "failed: the process died" in lines[3]
    assert {line.count("|") for line in lines} == {12}
    assert ablation.summary(rows).startswith("Over 1 models: median gain 1.50")


def test_an_interrupted_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    interrupted = True

    def isolated(compare: Any, name: str, threads: int, blocks: int) -> Ablation | str:
        asked.append(name)
        if name == "fsrcnn" and interrupted:
            raise KeyboardInterrupt
        return "the process died" if name == "srcnn" else row(name, 1.0, 2.0)

    monkeypatch.setattr(ablation, "isolated", isolated)
    arguments = ["srcnn", "dcgan", "fsrcnn", "--json", str(tmp_path / "rows.json")]
    with pytest.raises(KeyboardInterrupt):
        ablation.main(arguments)
    assert list(json.loads((tmp_path / "rows.json").read_text())["models"]) == ["srcnn", "dcgan"]
    interrupted = False
    asked.clear()
    assert ablation.main([*arguments, "--resume"]) == 1
    assert asked == ["srcnn", "fsrcnn"], "what failed is tried again"
    asked.clear()
    assert ablation.main(["dcgan", "fsrcnn", *arguments[3:], "--resume"]) == 0
    assert asked == []
    assert "median gain 2.00" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_families_are_told_model_by_model() -> None:
    rows: dict[str, dict[str, Any]] = {
        "dcgan": {"families": {"reindexing": 20.0, "splitting": 1.5}},
        "srcnn": {"families": {"splitting": 1.25}},
        "gcn": {"families": {"failed": "the process died"}},
        "fsrcnn": {"families": {}},
        "csrnet": {"failed": "the process died"},
    }
    assert ablation.family_table(rows).splitlines() == [
        "| model | reindexing | splitting |",
        "|---|---:|---:|",
        "| dcgan | 20.00 | 1.50 |",
        "| srcnn |  | 1.25 |",
        "| gcn | failed: the process died ||",
    ]
    assert ablation.family_table({"csrnet": rows["csrnet"]}) == ""
