"""The table of derivations: a case is measured, found, and written as JSON and Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples import derivations
from examples.derivations import Case, Result


def test_cases_run_and_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = tmp_path / "cases.json", tmp_path / "cases.md"
    assert derivations.main(["8", "--json", str(data), "--markdown", str(page)]) == 0
    found = json.loads(data.read_text())
    assert list(found) == ["8a", "8b"]
    assert all(one["found"] and "match_matmul" in one["chain"] for one in found.values())
    assert found["8b"]["operator"].startswith("Conv1x1 stride 2")
    assert page.read_text() == capsys.readouterr().out
    assert page.read_text().count("\n") == 4


def test_a_case_that_is_not_found_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("nothing", "everything", lambda: Result(False, note="it is too much"))
    assert derivations.as_json({}) == {}
    monkeypatch.setattr(derivations, "cases", lambda: {"0": case})
    assert derivations.as_json({"0": case.measure()})["0"]["cost_best"] is None, "JSON has no infinity"
    assert "| **no**: it is too much |" in derivations.table({"0": case.measure()})


def test_an_unknown_case_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        derivations.main(["no such case"])
    assert "no such case; there are 1, 2a" in capsys.readouterr().err


def test_every_point_of_the_list_has_a_case() -> None:
    numbers = {name.rstrip("abcdefgh") for name in derivations.intra_cases()}
    assert {*map(str, range(1, 11)), "16"} <= numbers
