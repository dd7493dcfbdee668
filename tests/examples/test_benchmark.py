"""Every row is written when it is measured, an interrupted run goes on, and the chart draws what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from examples import benchmark
from examples.benchmark import BATCH, BATCHED
from examples.chart import main as draw
from examples.comparison import Settings
from examples.models import MODELS
from tests.strategies.benchmark_rows import row


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is measured, in place of measuring it; InfoGAN at a larger batch fails the first time."""
    rows: list[tuple[str, int]] = []
    failures = iter(["the process died"])

    def isolated(compare: Any, name: str, batch: int, settings: Settings) -> dict[str, Any] | str:
        rows.append((name, batch))
        assert settings.tune == "off"
        measured = row(name, 1.0, batch, onnxruntime=2.0)
        return next(failures, measured) if name == "infogan" and batch > 1 else measured

    monkeypatch.setattr("examples.runs.isolated", isolated)
    return rows


def test_six_models_have_a_larger_batch_too(asked: list[tuple[str, int]]) -> None:
    benchmark.main(["--tune", "off"])
    assert asked == [*((name, 1) for name in MODELS), *((name, BATCH) for name in BATCHED)]
    asked.clear()
    benchmark.main(["--tune", "off", "--batch", "2", "gcn"])
    assert asked == [("gcn", 2)]


def test_rows_are_kept_and_failures_are_measured_again(
    asked: list[tuple[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "times.json"
    arguments = ["infogan", "gcn", "--tune", "off", "--against", "onnxruntime"]
    assert benchmark.main([*arguments, "--json", str(file)]) == 1
    document = json.loads(file.read_text())
    assert list(document["rows"]) == ["infogan", "gcn", "infogan, batch 16"]
    assert document["rows"]["infogan, batch 16"] == {"failed": "the process died"}
    assert document["command"] == " ".join(["python -m examples.benchmark", *arguments, "--json", str(file)])
    assert "failed: the process died" in capsys.readouterr().out
    asked.clear()
    assert benchmark.main([*arguments, "--resume", str(file)]) == 0
    assert asked == [("infogan", BATCH)]
    printed = capsys.readouterr().out
    assert "2.00 over batch 1 (2), 2.00 over larger batches (1)" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["times.json"]

    assert draw([str(file), str(tmp_path / "chart.svg")]) == 0
    chart = (tmp_path / "chart.svg").read_text()
    assert chart.count("0.50 (1.00 ms)") == 2, "a bar for each model at batch 1"
