"""The tables hold what was measured, failures included; only the seventeen models count in the summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples import benchmark
from examples.alternation import Series
from examples.comparison import Comparison


def row(name: str, ours: float, theirs: float, reference: str = "") -> Comparison:
    first, second = (Series((value,) * 5, 1) for value in (ours, theirs))
    return Comparison(name, reference, first, second, again=first, error=1e-6, compile_seconds=12.0, cores=2.0)


def fail(name: str, threads: int, blocks: int) -> Comparison:
    raise ValueError(f"{name} on {threads} threads\nmore")


def test_summary_counts_models_once() -> None:
    rows: dict[str, Comparison | str] = {
        "infogan": row("infogan", 1, 2),
        "dcgan": row("dcgan", 3, 1),
        "gcn": row("gcn", 2, 2),
        "longformer_chunked": row("longformer_chunked", 100, 1),
        "srcnn": "the process died",
    }
    assert benchmark.summary(rows) == ("Over 3 models: median ratio 1.00, largest 3.00 (dcgan).\nFailed: srcnn.")


def test_table_names_the_peers_formulation_and_the_failure() -> None:
    rows: dict[str, Comparison | str] = {
        "longformer_gathered": row("longformer_gathered", 3, 2, "longformer_chunked"),
        "gcn": "out of memory",
    }
    lines = benchmark.table(rows, "ONNX Runtime").splitlines()
    assert lines[2] == "| longformer_gathered | 3.000 | 2.000 (longformer_chunked) | 1.50 | 1.00 | 2.0 | 1.0e-06 | 12 |"
    assert "failed: out of memory" in lines[3]


def test_failure_in_the_process_is_one_line() -> None:
    assert benchmark.isolated(fail, "gcn", 2, 5) == "ValueError: gcn on 2 threads"


def test_main_writes_every_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = iter([row("infogan", 1, 2), row("infogan", 1, 3), "the process died"])
    monkeypatch.setattr(benchmark, "isolated", lambda *arguments: next(results))
    file = tmp_path / "times.json"
    assert benchmark.main(["infogan", "gcn", "--json", str(file)]) == 1
    document = json.loads(file.read_text())
    assert document["against_onnxruntime"]["infogan"]["ours"]["blocks"] == [1] * 5
    assert document["command"] == f"python -m examples.benchmark infogan gcn --json {file}"
    assert "python -m examples.benchmark" in capsys.readouterr().out
